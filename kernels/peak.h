#pragma once
// What the machine could do at most: the yardstick of every "share of peak".

#include "kernels/exec.h"

namespace cadre::kernels {

// FP32 FLOP/s of all threads of `exec` together, running independent chains of fused multiply-adds in vector registers
// of `exec.isa` and touching no memory: the median of five bursts in about `seconds`, after a warm-up. Instruction sets
// without a fused multiply-add count the product and the sum.
double measure_peak_flops(const Exec& exec, double seconds = 0.05);

}  // namespace cadre::kernels
