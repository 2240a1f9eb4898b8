#include "parallel/expert/balance.h"

#include <algorithm>
#include <numeric>

namespace cadre::parallel {
namespace {

// Copies of each expert, one at least and one for each rank at most.
std::vector<int> copies_of(const ExpertLoads& loads, int ranks, int replicas) {
  std::vector<int> copies(loads.size(), 1);
  // Experts fewer than ranks: no rank shall be without.
  const int least = std::max(0, ranks - static_cast<int>(loads.size()));
  for (int more = std::max(replicas, least); more > 0; --more) {
    size_t fullest = loads.size();
    for (size_t expert = 0; expert < loads.size(); ++expert) {
      if (copies[expert] >= ranks) continue;
      const bool first = fullest == loads.size();
      if (first || loads[expert] * copies[fullest] > loads[fullest] * copies[expert]) fullest = expert;
    }
    if (fullest == loads.size()) break;
    ++copies[fullest];
  }
  return copies;
}

struct Bin {
  double load = 0;
  std::vector<int64_t> experts;
};

bool holds(const Bin& bin, int64_t expert) {
  return std::find(bin.experts.begin(), bin.experts.end(), expert) != bin.experts.end();
}

// The emptiest rank that may take a copy; where all that have room hold the expert already, room is made.
size_t rank_for(const std::vector<Bin>& bins, int64_t expert, size_t room) {
  size_t best = bins.size();
  for (const bool crowded : {false, true}) {
    for (size_t rank = 0; rank < bins.size(); ++rank) {
      if (holds(bins[rank], expert) || (!crowded && bins[rank].experts.size() >= room)) continue;
      if (best == bins.size() || bins[rank].load < bins[best].load) best = rank;
    }
    if (best < bins.size()) return best;
  }
  return best;
}

}  // namespace

std::vector<double> rank_loads(const Placement& placement, const ExpertLoads& loads) {
  std::vector<double> ranks(static_cast<size_t>(placement.ranks()), 0.0);
  for (int64_t expert = 0; expert < placement.experts(); ++expert) {
    for (int source = 0; source < placement.ranks(); ++source) {
      ranks[static_cast<size_t>(placement.server(expert, source))] +=
          loads[static_cast<size_t>(expert)] / placement.ranks();
    }
  }
  return ranks;
}

double imbalance(const Placement& placement, const ExpertLoads& loads) {
  const std::vector<double> ranks = rank_loads(placement, loads);
  const double sum = std::accumulate(ranks.begin(), ranks.end(), 0.0);
  if (sum <= 0) return 1;
  return *std::max_element(ranks.begin(), ranks.end()) * static_cast<double>(ranks.size()) / sum;
}

Placement balanced_placement(const ExpertLoads& loads, int ranks, int replicas) {
  const std::vector<int> copies = copies_of(loads, ranks, replicas);
  std::vector<int64_t> order;
  for (size_t expert = 0; expert < loads.size(); ++expert) {
    order.insert(order.end(), static_cast<size_t>(copies[expert]), static_cast<int64_t>(expert));
  }
  const auto share = [&](int64_t expert) {
    return loads[static_cast<size_t>(expert)] / copies[static_cast<size_t>(expert)];
  };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return share(a) > share(b); });
  std::vector<Bin> bins(static_cast<size_t>(ranks));
  const size_t room = (order.size() + bins.size() - 1) / bins.size();
  std::vector<std::vector<int>> holders(loads.size());
  for (const int64_t expert : order) {
    const size_t rank = rank_for(bins, expert, room);
    bins[rank].load += share(expert);
    bins[rank].experts.push_back(expert);
    holders[static_cast<size_t>(expert)].push_back(static_cast<int>(rank));
  }
  for (std::vector<int>& of_expert : holders) std::sort(of_expert.begin(), of_expert.end());
  return Placement(std::move(holders), ranks);
}

}  // namespace cadre::parallel
