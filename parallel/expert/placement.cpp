#include "parallel/expert/placement.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"

namespace cadre::parallel {

Placement Placement::even(int64_t experts, int ranks) {
  std::vector<std::vector<int>> holders(static_cast<size_t>(experts));
  for (int rank = 0; rank < ranks; ++rank) {
    if (experts < ranks) {
      holders[static_cast<size_t>(rank * experts / ranks)].push_back(rank);
      continue;
    }
    const int64_t begin = experts * rank / ranks, end = experts * (rank + 1) / ranks;
    for (int64_t expert = begin; expert < end; ++expert) holders[static_cast<size_t>(expert)].push_back(rank);
  }
  return Placement(std::move(holders), ranks);
}

Placement::Placement(std::vector<std::vector<int>> holders, int ranks)
    : holders_(std::move(holders)), held_(static_cast<size_t>(ranks)), ranks_(ranks) {
  for (size_t expert = 0; expert < holders_.size(); ++expert) {
    int last = -1;
    for (const int rank : holders_[expert]) {
      if (rank <= last || rank >= ranks) {
        throw ConfigError(fmt::format("placement of expert {}: rank {}; wanted ascending ranks from 0 to {}", expert,
                                      rank, ranks - 1));
      }
      last = rank;
      held_[static_cast<size_t>(rank)].push_back(static_cast<int64_t>(expert));
    }
    if (last < 0) throw ConfigError(fmt::format("placement of expert {}: no rank; wanted at least one", expert));
  }
}

bool Placement::has_replicas() const {
  return std::any_of(holders_.begin(), holders_.end(), [](const auto& ranks) { return ranks.size() > 1; });
}

int Placement::server(int64_t expert, int source) const {
  const std::vector<int>& ranks = holders(expert);
  if (std::binary_search(ranks.begin(), ranks.end(), source)) return source;
  return ranks[static_cast<size_t>(source) % ranks.size()];
}

}  // namespace cadre::parallel
