#include "parallel/expert/routes.h"

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

}  // namespace

int64_t Routes::sent() const { return std::accumulate(send_rows.begin(), send_rows.end(), int64_t{0}); }

Routes plan_routes(const Placement& placement, const std::vector<int64_t>& counts, int rank) {
  const int ranks = placement.ranks();
  const int64_t experts = placement.experts();
  const auto count = [&](int source, int64_t expert) { return counts[static_cast<size_t>(source * experts + expert)]; };
  Routes routes;
  const std::vector<int64_t> mine = starts_of(counts.data() + rank * experts, experts);
  std::vector<Run> sent;
  for (int to = 0; to < ranks; ++to) {
    int64_t rows = 0;
    for (const int64_t expert : placement.held_by(to)) {
      if (placement.server(expert, rank) != to) continue;
      sent.push_back({mine[static_cast<size_t>(expert)], count(rank, expert)});
      rows += count(rank, expert);
    }
    routes.send_rows.push_back(rows);
  }
  const std::vector<int64_t>& held = placement.held_by(rank);
  std::vector<std::vector<Run>> of_expert(held.size());  // in order of the source
  int64_t position = 0;
  for (int from = 0; from < ranks; ++from) {
    const int64_t before = position;
    for (size_t local = 0; local < held.size(); ++local) {
      if (placement.server(held[local], from) != rank) continue;
      of_expert[local].push_back({position, count(from, held[local])});
      position += count(from, held[local]);
    }
    routes.receive_rows.push_back(position - before);
  }
  routes.offsets.push_back(0);
  std::vector<Run> computed;
  for (const std::vector<Run>& runs : of_expert) {
    int64_t rows = 0;
    for (const Run& run : runs) {
      computed.push_back(run);
      rows += run.count;
    }
    routes.offsets.push_back(routes.offsets.back() + rows);
  }
  routes.send_order = order_of(sent);
  routes.compute_order = order_of(computed);
  return routes;
}

RowOrder inverse_of(const RowOrder& order) {
  RowOrder inverse(order.size());
  for (size_t i = 0; i < order.size(); ++i) inverse[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
  return inverse;
}

}  // namespace cadre::parallel
