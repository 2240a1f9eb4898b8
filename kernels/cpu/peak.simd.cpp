#include "kernels/cpu/peak.h"

#include "kernels/cpu/vector.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

// Two units with a latency of 5 cycles need 10 chains; 12 and the two constants fit into 16 registers.
constexpr int64_t kChains = 12;

float burn(int64_t rounds, float factor, float offset) {
  const Vec factors = splat(factor);
  const Vec offsets = splat(offset);
  Vec chains[kChains];
  for (int64_t i = 0; i < kChains; ++i) chains[i] = splat(static_cast<float>(i));
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t i = 0; i < kChains; ++i) chains[i] = chains[i] * factors + offsets;
  }
  Vec total = zero();
  for (int64_t i = 0; i < kChains; ++i) total += chains[i];
  float sum = 0;
  for (int64_t lane = 0; lane < kWidth; ++lane) sum += total[lane];
  return sum;
}

}  // namespace

const PeakTable kPeakTable = {2 * kChains * kWidth, burn};

}  // namespace cadre::cpu::CADRE_ISA
