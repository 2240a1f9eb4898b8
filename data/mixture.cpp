#include "data/mixture.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace cadre::data {
namespace {

// Largest remainders: shares add up to kBlock, each within one of its exact value.
std::vector<int64_t> whole_shares(std::span<const double> weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> shares(weights.size());
  std::vector<double> remainders(weights.size());
  int64_t left = Mixture::kBlock;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double exact = weights[i] / sum * static_cast<double>(Mixture::kBlock);
    shares[i] = static_cast<int64_t>(std::floor(exact));
    remainders[i] = exact - std::floor(exact);
    left -= shares[i];
  }
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  for (size_t i = 0; left > 0; i = (i + 1) % order.size(), --left) ++shares[order[i]];
  return shares;
}

}  // namespace

Mixture::Mixture(std::span<const double> weights) {
  if (weights.empty() || weights.size() > std::numeric_limits<uint16_t>::max()) {
    throw ConfigError(fmt::format("data sources: got {}; wanted 1 to 65535", weights.size()));
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] > 0) || !std::isfinite(weights[i])) {
      throw ConfigError(fmt::format("weight of data source {}: got {}; wanted more than 0", i, weights[i]));
    }
  }
  shares_ = whole_shares(weights);
  for (size_t i = 0; i < weights.size(); ++i) {
    if (shares_[i] > 0) continue;
    throw ConfigError(fmt::format("weight of data source {}: got {}, less than 1/{} of the sum; leave the source out",
                                  i, weights[i], 2 * kBlock));
  }
  if (weights.size() == 1) return;
  // Sample m of a source with c of B samples is due at (m + 1/2) B / c: compared as (2m + 1) / c, in whole numbers.
  struct Due {
    int64_t numerator, share;
    uint16_t source;
    uint32_t rank;
  };
  std::vector<Due> dues;
  dues.reserve(kBlock);
  for (size_t source = 0; source < shares_.size(); ++source) {
    for (int64_t m = 0; m < shares_[source]; ++m) {
      dues.push_back({2 * m + 1, shares_[source], static_cast<uint16_t>(source), static_cast<uint32_t>(m)});
    }
  }
  std::stable_sort(dues.begin(), dues.end(),
                   [](const Due& a, const Due& b) { return a.numerator * b.share < b.numerator * a.share; });
  for (const Due& due : dues) {
    sources_.push_back(due.source);
    ranks_.push_back(due.rank);
  }
}

Mixture::Place Mixture::place(int64_t sample) const {
  if (sources_.empty()) return {0, sample};
  const int64_t block = sample / kBlock;
  const auto slot = static_cast<size_t>(sample % kBlock);
  const int source = sources_[slot];
  return {source, block * shares_[static_cast<size_t>(source)] + ranks_[slot]};
}

}  // namespace cadre::data
