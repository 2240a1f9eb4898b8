#pragma once
// What the groups of any communicator must do: run by the Thread and MPI tests, and on one rank.

#include <map>
#include <string>
#include <vector>

#include "tests/parallel/comm/collective_cases.h"

namespace cadre::parallel::testing {

// Ranks as a table of `columns`: a communicator of each row and of each column. Ranks beyond the last whole row have a
// row that is shorter.
struct Grid {
  std::unique_ptr<Communicator> row;
  std::unique_ptr<Communicator> column;
};
inline Grid make_grid(Communicator& comm, int columns) {
  return {comm.split(comm.rank() / columns, comm.rank(), "row"),
          comm.split(comm.rank() % columns, comm.rank(), "column")};
}

inline void check_members(Communicator& comm, int columns) {
  const Grid grid = make_grid(comm, columns);
  std::vector<int> row;
  std::vector<int> column;
  for (int rank = 0; rank < comm.size(); ++rank) {
    if (rank / columns == comm.rank() / columns) row.push_back(rank);
    if (rank % columns == comm.rank() % columns) column.push_back(rank);
  }
  ASSERT_EQ(grid.row->group().members, row);
  ASSERT_EQ(grid.column->group().members, column);
  ASSERT_EQ(grid.row->rank(), comm.rank() % columns);
  ASSERT_EQ(grid.column->rank(), comm.rank() / columns);
  ASSERT_EQ(grid.row->group().name, "row");
  ASSERT_NE(grid.row->group().key, grid.column->group().key);
  ASSERT_NE(grid.row->group().key, comm.group().key);
}

// The whole suite in groups that are active at the same time: disjoint ones, on different calls.
inline void check_groups(Communicator& comm, int columns, const std::vector<int64_t>& counts) {
  const Grid grid = make_grid(comm, columns);
  check_all(*grid.row, counts);
  if (grid.row->size() > 1) check_send_receive(*grid.row, 33);
  check_all(*grid.column, counts);
  check_all(comm, counts);
}

// Groups do different numbers of calls, of different kinds, before they meet again.
inline void check_disjoint(Communicator& comm) {
  const int color = comm.rank() % 2;
  const auto group = comm.split(color, 0, "half");
  for (int i = 0; i < 5 + 20 * color; ++i) {
    if (color == 0) {
      check_all_reduce<double>(*group, 700 + i, Reduction::kSum);
    } else {
      check_all_to_all(*group, 3 + i);
    }
  }
  check_all_reduce<double>(comm, 11, Reduction::kMax);
}

// Keys turn the order around; negative colors stay outside.
inline void check_keys_and_outsiders(Communicator& comm) {
  const auto reversed = comm.split(7, -comm.rank(), "reversed");
  ASSERT_EQ(reversed->rank(), comm.size() - 1 - comm.rank());
  for (int rank = 0; rank < comm.size(); ++rank) ASSERT_EQ(reversed->group().world_rank(rank), comm.size() - 1 - rank);
  check_all(*reversed, {1, 130});
  const auto others = comm.split(comm.rank() == 0 ? -1 : 0, 0, "others");
  ASSERT_EQ(others == nullptr, comm.rank() == 0);
  if (others) {
    ASSERT_EQ(others->group().world_rank(0), 1);
    check_all(*others, {1, 130});
  }
}

// Nonblocking calls on rows, columns and the whole, started in one order and waited for in another on every rank.
inline void check_interleaved(Communicator& comm, int columns, int64_t count) {
  const Grid grid = make_grid(comm, columns);
  const std::vector<Communicator*> comms = {grid.row.get(), grid.column.get(), &comm};
  struct Sum {
    const Communicator* comm;
    int salt;
    std::vector<float> data;
  };
  std::vector<Sum> sums;
  sums.reserve(24);
  std::vector<WorkPtr> works;
  for (int i = 0; i < 24; ++i) {
    // Ranks of odd rows start on the column first: only the order within a communicator is shared.
    const size_t turn = static_cast<size_t>(comm.rank() / columns % 2 == 0 ? i : i + (i % 3 == 0) - (i % 3 == 1));
    const int salt = static_cast<int>(turn);
    Communicator* chosen = comms[turn % comms.size()];
    sums.push_back({chosen, salt, filled<float>(chosen->group().world_rank(chosen->rank()), count, salt)});
    works.push_back(chosen->all_reduce(view_of(sums.back().data), Reduction::kSum, {"interleaved", salt}));
  }
  for (size_t i = 0; i < works.size(); ++i) {
    works[(i * 7 + static_cast<size_t>(comm.rank()) * 5) % works.size()]->wait();
  }
  for (const Sum& sum : sums) {
    const std::vector<int>& members = sum.comm->group().members;
    std::vector<float> wanted;
    for (int64_t i = 0; i < count; ++i) wanted.push_back(sum_at<float>(members, i, sum.salt));
    ASSERT_EQ(sum.data, wanted) << sum.comm->group().name << " " << sum.salt;
  }
}

// Groups of groups; the parents go first.
inline void check_nested(Communicator& comm) {
  std::unique_ptr<Communicator> inner;
  {
    const auto half = comm.split(comm.rank() * 2 / comm.size(), comm.rank(), "half");
    inner = half->split(half->rank() % 2, -half->rank(), "quarter");
  }
  check_all(*inner, {0, 1, 130});
  for (int rank = 1; rank < inner->size(); ++rank) {
    ASSERT_EQ(inner->group().world_rank(rank - 1) - inner->group().world_rank(rank), 2);
  }
}

// Many groups come and go, with calls under way on others.
inline void check_many(Communicator& comm) {
  std::vector<float> data = filled<float>(comm.rank(), 50'000);
  const WorkPtr pending = comm.all_reduce(view_of(data), Reduction::kSum, {"pending"});
  for (int i = 0; i < 40; ++i) {
    const auto group = comm.split(comm.rank() % (1 + i % 3), 0, "temporary");
    check_all_reduce<float>(*group, 3, Reduction::kSum);
  }
  pending->wait();
}

inline void check_all_groups(Communicator& comm) {
  for (int columns = 1; columns <= comm.size(); ++columns) check_members(comm, columns);
  for (const int columns : {1, 2, 3, comm.size()}) {
    check_interleaved(comm, columns, 10);
    check_interleaved(comm, columns, 20'003);
  }
  check_groups(comm, 2, {0, 1, 7, 1025});
  check_groups(comm, 3, {0, 1, 7, 1025});
  check_disjoint(comm);
  check_keys_and_outsiders(comm);
  check_nested(comm);
  check_many(comm);
}

}  // namespace cadre::parallel::testing
