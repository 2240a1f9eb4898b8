#include "kernels/peak.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cpu/peak.h"

namespace cadre::kernels {
namespace {

// No machine's speed is known here: more than a million and less than 10^16 FLOP/s is all that can be said.
TEST(Peak, OfEveryInstructionSetAndTeam) {
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (!isa_available(isa)) continue;
    for (const int size : {1, 3}) {
      ThreadPool threads(size);
      const double flops = measure_peak_flops({threads, isa}, 0.002);
      EXPECT_GT(flops, 1e6) << name_of(isa);
      EXPECT_LT(flops, 1e16) << name_of(isa);
    }
  }
}

// The chains are computed, and stay at ordinary numbers: after many rounds each holds offset / (1 - factor) = 4.
TEST(Peak, TheArithmeticIsDone) {
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (!isa_available(isa)) continue;
    const cpu::PeakTable& table = CADRE_SIMD_SELECT(isa, kPeakTable);
    const auto values = static_cast<float>(table.flops_per_round / 2);
    EXPECT_EQ(table.burn(100, 0.5f, 2.0f), 4 * values) << name_of(isa);
    const float lanes = values / 12;
    EXPECT_EQ(table.burn(0, 0.5f, 2.0f), 66 * lanes) << "the chains begin at 0 to 11";
    EXPECT_EQ(table.burn(1, 0.5f, 2.0f), (33 + 24) * lanes);
  }
}

}  // namespace
}  // namespace cadre::kernels
