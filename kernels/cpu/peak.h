#pragma once
// The arithmetic of kernels/peak.h, per instruction set. Serial.

#include <cstdint>

#include "kernels/cpu/isa.h"

namespace cadre::cpu {

struct PeakTable {
  int64_t flops_per_round;
  // Runs `rounds` rounds; with 0 < factor < 1 all values stay near offset / (1 - factor). Returns a sum of what it
  // computed.
  float (*burn)(int64_t rounds, float factor, float offset);
};
CADRE_SIMD_TABLE(PeakTable, kPeakTable)

}  // namespace cadre::cpu
