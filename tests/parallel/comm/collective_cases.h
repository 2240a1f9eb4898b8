#pragma once
// What every Communicator must do, on any number of ranks: run by the Self, Thread and MPI tests.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "parallel/comm/communicator.h"

namespace cadre::parallel::testing {

template <class T>
TensorView view_of(std::vector<T>& values) {
  const auto count = static_cast<int64_t>(values.size());
  return {.data = values.data(), .dtype = DtypeOf<T>::value, .shape = Shape{count}, .row_stride = count};
}

template <class T>
TensorView matrix_of(std::vector<T>& values, int64_t columns) {
  const auto rows = static_cast<int64_t>(values.size()) / columns;
  return {.data = values.data(), .dtype = DtypeOf<T>::value, .shape = Shape{rows, columns}, .row_stride = columns};
}

// A value that differs by rank and element and is not exact in binary, so that another order of summation shows.
inline double value_at(int rank, int64_t element, int salt = 0) {
  return std::sin(0.7 * static_cast<double>(element + 1) + 1.3 * (rank + 1) + 2.1 * salt) *
         (rank % 2 == 0 ? 1e3 : 1e-3);
}

template <class T>
std::vector<T> filled(int rank, int64_t count, int salt = 0) {
  std::vector<T> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = static_cast<T>(value_at(rank, i, salt));
  return values;
}

// The ranks' values in the order that the interface promises: neighbours in pairs, then pairs of pairs; an odd one out
// moves up.
template <class T, class Combine = std::plus<T>>
T in_tree(std::vector<T> values, Combine combine = {}) {
  while (values.size() > 1) {
    std::vector<T> level;
    for (size_t i = 0; i + 1 < values.size(); i += 2) level.push_back(combine(values[i], values[i + 1]));
    if (values.size() % 2 == 1) level.push_back(values.back());
    values = std::move(level);
  }
  return values[0];
}

// Elements of value_at, summed over ranks.
template <class T>
T sum_at(const std::vector<int>& ranks, int64_t element, int salt = 0) {
  std::vector<T> values;
  for (const int rank : ranks) values.push_back(static_cast<T>(value_at(rank, element, salt)));
  return in_tree(std::move(values));
}
template <class T>
T sum_at(int ranks, int64_t element, int salt = 0) {
  std::vector<int> all(static_cast<size_t>(ranks));
  std::iota(all.begin(), all.end(), 0);
  return sum_at<T>(all, element, salt);
}

template <class T>
void check_all_reduce(Communicator& comm, int64_t count, Reduction reduction) {
  std::vector<T> data = filled<T>(comm.rank(), count);
  comm.all_reduce(view_of(data), reduction, {"test", 3})->wait();
  std::vector<T> wanted;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<T> values;
    for (int rank = 0; rank < comm.size(); ++rank) values.push_back(static_cast<T>(value_at(rank, i)));
    if (reduction == Reduction::kSum) wanted.push_back(in_tree(values));
    if (reduction == Reduction::kMax) wanted.push_back(*std::max_element(values.begin(), values.end()));
    if (reduction == Reduction::kMin) wanted.push_back(*std::min_element(values.begin(), values.end()));
  }
  ASSERT_EQ(data, wanted) << count << " elements of " << name_of(DtypeOf<T>::value);
}

inline void check_all_reduces(Communicator& comm, const std::vector<int64_t>& counts) {
  for (const int64_t count : counts) {
    for (const Reduction reduction : {Reduction::kSum, Reduction::kMax, Reduction::kMin}) {
      check_all_reduce<float>(comm, count, reduction);
      check_all_reduce<double>(comm, count, reduction);
      check_all_reduce<int32_t>(comm, count, reduction);
      check_all_reduce<int64_t>(comm, count, reduction);
    }
  }
}

inline void check_all_gather(Communicator& comm, int64_t count) {
  std::vector<float> send = filled<float>(comm.rank(), count);
  std::vector<float> receive(static_cast<size_t>(count * comm.size()), -1);
  comm.all_gather(view_of(send), view_of(receive), {"test"})->wait();
  for (int rank = 0; rank < comm.size(); ++rank) {
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(receive[static_cast<size_t>(rank * count + i)], static_cast<float>(value_at(rank, i)));
    }
  }
}

inline void check_reduce_scatter(Communicator& comm, int64_t count) {
  std::vector<double> send = filled<double>(comm.rank(), count * comm.size());
  std::vector<double> receive(static_cast<size_t>(count), -1);
  comm.reduce_scatter(view_of(send), view_of(receive), {"test"})->wait();
  for (int64_t i = 0; i < count; ++i) {
    ASSERT_EQ(receive[static_cast<size_t>(i)], sum_at<double>(comm.size(), comm.rank() * count + i));
  }
}

// Rows from rank a to rank b; many pairs exchange nothing.
inline int64_t rows_between(int from, int to) { return (3 * from + 2 * to) % 4; }

struct RowCounts {
  std::vector<int64_t> send;
  std::vector<int64_t> receive;
  int64_t sent() const { return std::accumulate(send.begin(), send.end(), int64_t{0}); }
  int64_t received() const { return std::accumulate(receive.begin(), receive.end(), int64_t{0}); }
};

inline RowCounts row_counts(const Communicator& comm) {
  RowCounts counts;
  for (int rank = 0; rank < comm.size(); ++rank) {
    counts.send.push_back(rows_between(comm.rank(), rank));
    counts.receive.push_back(rows_between(rank, comm.rank()));
  }
  return counts;
}

inline void check_all_to_all(Communicator& comm, int64_t columns) {
  const RowCounts counts = row_counts(comm);
  std::vector<float> send;
  for (int to = 0; to < comm.size(); ++to) {
    for (int64_t i = 0; i < rows_between(comm.rank(), to) * columns; ++i) {
      send.push_back(static_cast<float>(100 * comm.rank() + 10 * to) + static_cast<float>(i) / 64);
    }
  }
  // One row more than is used: buffers are bounds.
  send.resize(static_cast<size_t>((counts.sent() + 1) * columns), -1);
  std::vector<float> receive(static_cast<size_t>((counts.received() + 1) * columns), -1);
  comm.all_to_all(matrix_of(send, columns), counts.send, matrix_of(receive, columns), counts.receive, {"test"})->wait();
  size_t position = 0;
  for (int from = 0; from < comm.size(); ++from) {
    for (int64_t i = 0; i < rows_between(from, comm.rank()) * columns; ++i) {
      ASSERT_EQ(receive[position++], static_cast<float>(100 * from + 10 * comm.rank()) + static_cast<float>(i) / 64);
    }
  }
  ASSERT_EQ(receive[position], -1) << "rows beyond the counts must stay untouched";
}

inline void check_broadcast(Communicator& comm, int64_t count) {
  for (int root = 0; root < comm.size(); ++root) {
    std::vector<int64_t> data = filled<int64_t>(comm.rank() + 10, count, root);
    comm.broadcast(view_of(data), root, {"test"})->wait();
    ASSERT_EQ(data, filled<int64_t>(root + 10, count, root));
  }
}

// Around a ring, three messages in order, receives posted first.
inline void check_send_receive(Communicator& comm, int64_t count) {
  const int next = (comm.rank() + 1) % comm.size();
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  std::vector<std::vector<float>> send;
  std::vector<std::vector<float>> receive;
  std::vector<WorkPtr> works;
  for (int message = 0; message < 3; ++message) {
    send.push_back(filled<float>(comm.rank(), count, message));
    receive.emplace_back(static_cast<size_t>(count));
  }
  for (auto& buffer : receive) works.push_back(comm.receive(view_of(buffer), previous, {"ring"}));
  for (auto& buffer : send) works.push_back(comm.send(view_of(buffer), next, {"ring"}));
  for (const WorkPtr& work : works) work->wait();
  for (int message = 0; message < 3; ++message) {
    ASSERT_EQ(receive[static_cast<size_t>(message)], filled<float>(previous, count, message));
  }
}

inline void check_texts(Communicator& comm) {
  const std::string text = comm.rank() == 0 ? "" : std::string(static_cast<size_t>(comm.rank()) * 1000, 'x');
  const std::vector<std::string> texts = comm.gather_text(text, {"test"});
  ASSERT_EQ(static_cast<int>(texts.size()), comm.size());
  for (int rank = 0; rank < comm.size(); ++rank) {
    ASSERT_EQ(texts[static_cast<size_t>(rank)], std::string(static_cast<size_t>(rank) * 1000, 'x'));
  }
}

// Several collectives under way at once, waited for in another order on each rank.
inline void check_overlap(Communicator& comm, int64_t count) {
  std::vector<std::vector<float>> data;
  std::vector<WorkPtr> works;
  for (int i = 0; i < 6; ++i) data.push_back(filled<float>(comm.rank(), count, i));
  for (auto& buffer : data) works.push_back(comm.all_reduce(view_of(buffer), Reduction::kSum, {"overlap"}));
  std::vector<double> part(8, comm.rank());
  std::vector<double> whole(part.size() * static_cast<size_t>(comm.size()));
  works.push_back(comm.all_gather(view_of(part), view_of(whole), {"overlap"}));
  for (size_t i = 0; i < works.size(); ++i) works[(i + static_cast<size_t>(comm.rank()) * 3) % works.size()]->wait();
  for (int i = 0; i < 6; ++i) {
    std::vector<float> wanted;
    for (int64_t j = 0; j < count; ++j) wanted.push_back(sum_at<float>(comm.size(), j, i));
    ASSERT_EQ(data[static_cast<size_t>(i)], wanted);
  }
  ASSERT_EQ(whole.back(), comm.size() - 1);
}

// Sum over ranks of <a, b>.
inline double global_dot(Communicator& comm, const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> sum = {std::inner_product(a.begin(), a.end(), b.begin(), 0.0)};
  comm.all_reduce(view_of(sum), Reduction::kSum, {"dot"})->wait();
  return sum[0];
}

// <Ax, y> = <x, A'y> for every adjoint pair.
inline void check_adjoints(Communicator& comm) {
  constexpr int64_t kCount = 37;
  const int64_t whole = kCount * comm.size();
  const auto expect_equal = [&](double forward, double backward, const char* pair) {
    ASSERT_NEAR(forward, backward, 1e-12 * (std::abs(forward) + 1e6)) << pair;
  };
  const std::vector<double> x = filled<double>(comm.rank(), kCount, 1);
  const std::vector<double> y = filled<double>(comm.rank(), kCount, 2);
  std::vector<double> wide = filled<double>(comm.rank(), whole, 3);

  std::vector<double> ax = x;
  std::vector<double> ay = y;
  comm.all_reduce(view_of(ax), Reduction::kSum, {"adjoint"})->wait();
  comm.all_reduce(view_of(ay), Reduction::kSum, {"adjoint"})->wait();
  expect_equal(global_dot(comm, ax, y), global_dot(comm, x, ay), "all_reduce, all_reduce");

  std::vector<double> send = x;
  std::vector<double> gathered(static_cast<size_t>(whole));
  std::vector<double> scattered(static_cast<size_t>(kCount));
  comm.all_gather(view_of(send), view_of(gathered), {"adjoint"})->wait();
  comm.reduce_scatter(view_of(wide), view_of(scattered), {"adjoint"})->wait();
  expect_equal(global_dot(comm, gathered, wide), global_dot(comm, x, scattered), "all_gather, reduce_scatter");

  const RowCounts counts = row_counts(comm);
  std::vector<double> forward_in = filled<double>(comm.rank(), counts.sent(), 4);
  std::vector<double> backward_in = filled<double>(comm.rank(), counts.received(), 5);
  std::vector<double> forward_out(backward_in.size());
  std::vector<double> backward_out(forward_in.size());
  comm.all_to_all(view_of(forward_in), counts.send, view_of(forward_out), counts.receive, {"adjoint"})->wait();
  comm.all_to_all(view_of(backward_in), counts.receive, view_of(backward_out), counts.send, {"adjoint"})->wait();
  expect_equal(global_dot(comm, forward_out, backward_in), global_dot(comm, forward_in, backward_out), "all_to_all");

  // Broadcast reads x on the root only; its adjoint, reduce, is an all_reduce of which only the root's result counts.
  const int root = comm.size() - 1;
  std::vector<double> cast = x;
  std::vector<double> reduced = y;
  comm.broadcast(view_of(cast), root, {"adjoint"})->wait();
  comm.all_reduce(view_of(reduced), Reduction::kSum, {"adjoint"})->wait();
  if (comm.rank() != root) std::fill(reduced.begin(), reduced.end(), 0.0);
  expect_equal(global_dot(comm, cast, y), global_dot(comm, x, reduced), "broadcast, reduce");
}

// Everything above; `counts` of elements should straddle the implementation's limits.
inline void check_all(Communicator& comm, const std::vector<int64_t>& counts) {
  check_all_reduces(comm, counts);
  for (const int64_t count : counts) {
    check_all_gather(comm, count);
    check_reduce_scatter(comm, count);
    check_broadcast(comm, count);
  }
  for (const int64_t columns : {1, 5, 700}) check_all_to_all(comm, columns);
  comm.barrier({"test"});
  check_texts(comm);
  check_overlap(comm, 1000);
  check_adjoints(comm);
}

}  // namespace cadre::parallel::testing
