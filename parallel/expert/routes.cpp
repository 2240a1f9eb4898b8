#include "parallel/expert/routes.h"

#include <algorithm>
#include <numeric>

namespace cadre::parallel {
namespace {

// A run of rows that stand together both before and after.
struct Run {
  int64_t begin;
  int64_t count;
};

bool in_order(const std::vector<Run>& runs) {
  int64_t next = 0;
  for (const Run& run : runs) {
    if (run.count > 0 && run.begin != next) return false;
    next += run.count;
  }
  return true;
}

// The order that puts runs after each other; empty when they already stand so.
RowOrder order_of(const std::vector<Run>& runs) {
  RowOrder order;
  if (in_order(runs)) return order;
  for (const Run& run : runs) {
    for (int64_t i = 0; i < run.count; ++i) order.push_back(static_cast<int32_t>(run.begin + i));
  }
  return order;
}

std::vector<int64_t> starts_of(const int64_t* counts, int64_t experts) {
  std::vector<int64_t> starts(static_cast<size_t>(experts) + 1, 0);
  std::partial_sum(counts, counts + experts, starts.begin() + 1);
  return starts;
}

// The part of a round of `count` rows.
Run part_of(int64_t count, int64_t round, int64_t rounds) {
  const int64_t begin = count * round / rounds;
  return {begin, count * (round + 1) / rounds - begin};
}

class Planner {
 public:
  Planner(const Placement& placement, const std::vector<int64_t>& counts, int64_t rounds)
      : placement_(placement), counts_(counts), rounds_(rounds) {}

  // What `rank` sends in a round, as runs of its sorted rows; rows to each rank are appended.
  void send(int rank, int64_t round, std::vector<Run>& runs, std::vector<int64_t>& rows) const {
    const std::vector<int64_t> starts = starts_of(counts_.data() + rank * placement_.experts(), placement_.experts());
    for (int to = 0; to < placement_.ranks(); ++to) {
      rows.push_back(0);
      for (const int64_t expert : placement_.held_by(to)) {
        if (placement_.server(expert, rank) != to) continue;
        const Run part = part_of(count(rank, expert), round, rounds_);
        runs.push_back({starts[static_cast<size_t>(expert)] + part.begin, part.count});
        rows.back() += part.count;
      }
    }
  }

  // What `rank` receives in a round: rows from each rank, and their order by local expert.
  void receive(int rank, int64_t round, Round& result) const {
    const std::vector<int64_t>& held = placement_.held_by(rank);
    std::vector<std::vector<Run>> of_expert(held.size());  // in order of the source
    int64_t position = 0;
    for (int from = 0; from < placement_.ranks(); ++from) {
      const int64_t before = position;
      for (size_t local = 0; local < held.size(); ++local) {
        if (placement_.server(held[local], from) != rank) continue;
        const int64_t rows = part_of(count(from, held[local]), round, rounds_).count;
        of_expert[local].push_back({position, rows});
        position += rows;
      }
      result.receive_rows.push_back(position - before);
    }
    result.offsets.push_back(0);
    std::vector<Run> computed;
    for (const std::vector<Run>& runs : of_expert) {
      int64_t rows = 0;
      for (const Run& run : runs) {
        computed.push_back(run);
        rows += run.count;
      }
      result.offsets.push_back(result.offsets.back() + rows);
    }
    result.compute_order = order_of(computed);
  }

  // Rows that `rank` receives in its fullest round.
  int64_t fullest(int rank) const {
    int64_t most = 0;
    for (int64_t round = 0; round < rounds_; ++round) {
      int64_t rows = 0;
      for (const int64_t expert : placement_.held_by(rank)) {
        for (int from = 0; from < placement_.ranks(); ++from) {
          if (placement_.server(expert, from) == rank) rows += part_of(count(from, expert), round, rounds_).count;
        }
      }
      most = std::max(most, rows);
    }
    return most;
  }

 private:
  int64_t count(int source, int64_t expert) const {
    return counts_[static_cast<size_t>(source * placement_.experts() + expert)];
  }

  const Placement& placement_;
  const std::vector<int64_t>& counts_;
  int64_t rounds_;
};

}  // namespace

int64_t Round::sent() const { return std::accumulate(send_rows.begin(), send_rows.end(), int64_t{0}); }

Routes plan_routes(const Placement& placement, const std::vector<int64_t>& counts, int rank, int64_t rounds) {
  const Planner planner(placement, counts, rounds);
  Routes routes;
  std::vector<Run> sent;
  for (int64_t i = 0; i < rounds; ++i) {
    Round round;
    planner.send(rank, i, sent, round.send_rows);
    planner.receive(rank, i, round);
    routes.rounds.push_back(std::move(round));
  }
  routes.send_order = order_of(sent);
  return routes;
}

int64_t rounds_needed(const Placement& placement, const std::vector<int64_t>& counts, int64_t most) {
  const int64_t largest = std::max<int64_t>(1, *std::max_element(counts.begin(), counts.end()));
  int64_t rounds = 1;
  for (int rank = 0; rank < placement.ranks(); ++rank) {
    const int64_t received = Planner(placement, counts, 1).fullest(rank);
    rounds = std::max(rounds, std::min(largest, (received + most - 1) / most));
    while (rounds < largest && Planner(placement, counts, rounds).fullest(rank) > most) ++rounds;
  }
  return rounds;
}

RowOrder inverse_of(const RowOrder& order) {
  RowOrder inverse(order.size());
  for (size_t i = 0; i < order.size(); ++i) inverse[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
  return inverse;
}

}  // namespace cadre::parallel
