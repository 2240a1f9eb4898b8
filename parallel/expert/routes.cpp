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

// The part from `begin` to `end` of `whole` of a run.
Run part_of(Run run, int64_t begin, int64_t end, int64_t whole) {
  const int64_t first = run.count * begin / whole;
  return {run.begin + first, run.count * end / whole - first};
}

class Planner {
 public:
  Planner(const Placement& placement, const std::vector<int64_t>& counts, RouteCuts cuts)
      : placement_(placement), counts_(counts), cuts_(cuts) {
    if (cuts_.whole_cells) cuts_.rounds = assign_rounds();
  }
  int64_t rounds() const { return cuts_.rounds; }

  // Appends what `rank` sends in a part, as runs of its sorted rows.
  void send(int rank, int64_t part, std::vector<Run>& runs) const {
    const std::vector<int64_t> starts = starts_of(counts_.data() + rank * placement_.experts(), placement_.experts());
    for (int to = 0; to < placement_.ranks(); ++to) {
      for_each_expert(rank, to, part, [&](int64_t, int64_t expert, Run run) {
        runs.push_back({starts[static_cast<size_t>(expert)] + run.begin, run.count});
      });
    }
  }

  RoutePart part(int rank, int64_t part) const {
    RoutePart result{traffic(part), experts_of(rank, part), {}, {0}, {0}};
    const size_t experts = static_cast<size_t>(result.experts.count);
    // Of the receive buffer, by expert and source.
    std::vector<std::vector<Run>> of_expert(experts, std::vector<Run>(static_cast<size_t>(placement_.ranks())));
    int64_t position = 0;
    for (int from = 0; from < placement_.ranks(); ++from) {
      for_each_expert(from, rank, part, [&](int64_t local, int64_t, Run run) {
        of_expert[static_cast<size_t>(local - result.experts.first)][static_cast<size_t>(from)] = {position, run.count};
        position += run.count;
      });
    }
    std::vector<Run> computed;
    for (const std::vector<Run>& runs : of_expert) {
      for (const Run& run : runs) {
        computed.push_back(run);
        result.cells.push_back(result.cells.back() + run.count);
      }
      result.offsets.push_back(result.cells.back());
    }
    result.compute_order = order_of(computed);
    return result;
  }

  // Rows that `rank` receives in its fullest round.
  int64_t fullest(int rank) const {
    int64_t most = 0;
    for (int64_t round = 0; round < cuts_.rounds; ++round) {
      int64_t rows = 0;
      for (const int64_t expert : placement_.held_by(rank)) {
        for (int from = 0; from < placement_.ranks(); ++from) {
          if (placement_.server(expert, from) == rank) rows += rows_of(from, expert, round).count;
        }
      }
      most = std::max(most, rows);
    }
    return most;
  }

 private:
  size_t cell(int source, int64_t expert) const { return static_cast<size_t>(source * placement_.experts() + expert); }

  // Puts whole cells into rounds, each rank's one after the other. Returns the number of rounds.
  int64_t assign_rounds() {
    round_of_.resize(counts_.size(), 0);
    int64_t rounds = 1;
    for (int rank = 0; rank < placement_.ranks(); ++rank) {
      int64_t round = 0, rows = 0;
      for (const int64_t expert : placement_.held_by(rank)) {
        for (int source = 0; source < placement_.ranks(); ++source) {
          if (placement_.server(expert, source) != rank) continue;
          const int64_t count = counts_[cell(source, expert)];
          if (cuts_.most > 0 && rows > 0 && rows + count > cuts_.most) {
            ++round;
            rows = 0;
          }
          rows += count;
          round_of_[cell(source, expert)] = round;
        }
      }
      rounds = std::max(rounds, round + 1);
    }
    return rounds;
  }

  // Rows of a source and expert in a round, as a run of them.
  Run rows_of(int source, int64_t expert, int64_t round) const {
    const Run all{0, counts_[cell(source, expert)]};
    if (!cuts_.whole_cells) return part_of(all, round, round + 1, cuts_.rounds);
    return round_of_[cell(source, expert)] == round ? all : Run{0, 0};
  }

  // The part of them that is in a chunk, where `held` experts of a rank are fewer than chunks.
  Run chunk_of(Run run, int source, int64_t local, int64_t held, int64_t chunk) const {
    const int64_t chunks = cuts_.chunks, sources = placement_.ranks();
    const int64_t begin = std::clamp<int64_t>(chunk * held - local * chunks, 0, chunks);
    const int64_t end = std::clamp<int64_t>((chunk + 1) * held - local * chunks, 0, chunks);
    if (!cuts_.whole_cells) return part_of(run, begin, end, chunks);
    const bool here = begin * sources / chunks <= source && source < end * sources / chunks;
    return here ? run : Run{0, 0};
  }

  // Chunk c takes [c * held / chunks, (c + 1) * held / chunks) of a rank's experts, in whole experts where it can.
  LocalExperts experts_of(int rank, int64_t part) const {
    const auto held = static_cast<int64_t>(placement_.held_by(rank).size());
    const int64_t chunk = part % cuts_.chunks, begin = chunk * held, end = begin + held;
    const bool whole = held >= cuts_.chunks;
    const int64_t first = begin / cuts_.chunks;
    return {first, (whole ? end : end + cuts_.chunks - 1) / cuts_.chunks - first};
  }

  // visit(local expert, expert, run of the source's rows for it) for what `to` computes of `from` in a part.
  template <class F>
  void for_each_expert(int from, int to, int64_t part, F&& visit) const {
    const std::vector<int64_t>& held = placement_.held_by(to);
    const auto all = static_cast<int64_t>(held.size());
    const LocalExperts experts = experts_of(to, part);
    const int64_t chunks = cuts_.chunks;
    for (int64_t local = experts.first; local < experts.first + experts.count; ++local) {
      const int64_t expert = held[static_cast<size_t>(local)];
      if (placement_.server(expert, from) != to) continue;
      Run run = rows_of(from, expert, part / chunks);
      if (all < chunks) run = chunk_of(run, from, local, all, part % chunks);
      visit(local, expert, run);
    }
  }

  RowTraffic traffic(int64_t part) const {
    RowTraffic traffic(placement_.ranks());
    for (int from = 0; from < placement_.ranks(); ++from) {
      for (int to = 0; to < placement_.ranks(); ++to) {
        for_each_expert(from, to, part, [&](int64_t, int64_t, Run run) { traffic.rows(from, to) += run.count; });
      }
    }
    return traffic;
  }

  const Placement& placement_;
  const std::vector<int64_t>& counts_;
  RouteCuts cuts_;
  std::vector<int64_t> round_of_;  // by cell, when they stay whole
};

}  // namespace

Routes plan_routes(const Placement& placement, const std::vector<int64_t>& counts, int rank, RouteCuts cuts) {
  const Planner planner(placement, counts, cuts);
  Routes routes;
  std::vector<Run> sent;
  for (int64_t part = 0; part < cuts.rounds * cuts.chunks; ++part) {
    planner.send(rank, part, sent);
    routes.parts.push_back(planner.part(rank, part));
  }
  routes.send_order = order_of(sent);
  return routes;
}

int64_t rounds_needed(const Placement& placement, const std::vector<int64_t>& counts, int64_t most, bool whole_cells) {
  if (whole_cells) return Planner(placement, counts, {.whole_cells = true, .most = most}).rounds();
  const int64_t largest = std::max<int64_t>(1, *std::max_element(counts.begin(), counts.end()));
  int64_t rounds = 1;
  for (int rank = 0; rank < placement.ranks(); ++rank) {
    const int64_t received = Planner(placement, counts, {}).fullest(rank);
    rounds = std::max(rounds, std::min(largest, (received + most - 1) / most));
    while (rounds < largest && Planner(placement, counts, {.rounds = rounds}).fullest(rank) > most) ++rounds;
  }
  return rounds;
}

RowOrder inverse_of(const RowOrder& order) {
  RowOrder inverse(order.size());
  for (size_t i = 0; i < order.size(); ++i) inverse[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
  return inverse;
}

}  // namespace cadre::parallel
