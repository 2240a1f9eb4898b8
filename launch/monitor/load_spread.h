#pragma once
// How evenly the experts of a layer are loaded.

#include <cstdint>
#include <vector>

namespace cadre::launch {

// NaN where there is no choice at all.
struct LoadSpread {
  double utilisation;  // share of experts with more than half of the fair share, choices / experts
  double variation;    // standard deviation of loads over their mean
  double divergence;   // Jensen-Shannon, of the loads from even ones, in nats: 0 is even, ln 2 the bound
};

// `choices`: of each expert.
LoadSpread load_spread(const std::vector<int64_t>& choices);

}  // namespace cadre::launch
