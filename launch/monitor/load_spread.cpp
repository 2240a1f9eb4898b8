#include "launch/monitor/load_spread.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace cadre::launch {
namespace {

// p log(p / q), the limit at p = 0 included.
double term(double p, double q) { return p > 0 ? p * std::log(p / q) : 0; }

}  // namespace

LoadSpread load_spread(const std::vector<int64_t>& choices) {
  const auto all = static_cast<double>(std::accumulate(choices.begin(), choices.end(), int64_t{0}));
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  if (!(all > 0)) return {kUnknown, kUnknown, kUnknown};
  const auto experts = static_cast<double>(choices.size());
  const double even = 1 / experts;
  double used = 0, squares = 0, divergence = 0;
  for (const int64_t count : choices) {
    const double share = static_cast<double>(count) / all, middle = (share + even) / 2;
    used += share > even / 2 ? 1 : 0;
    squares += (share - even) * (share - even);
    divergence += (term(share, middle) + term(even, middle)) / 2;
  }
  return {used / experts, std::sqrt(squares / experts) / even, std::max(0.0, divergence)};
}

}  // namespace cadre::launch
