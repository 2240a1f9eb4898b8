#pragma once
// The f32 code of kernels/cross_entropy.h, per instruction set. Serial, over tokens [begin, end).

#include <cstdint>

#include "kernels/cpu/elementwise.h"

namespace cadre::cpu {

struct CrossEntropyTable {
  void (*forward)(Rows logits, const int32_t* targets, float* losses, float* lse, int64_t vocabulary, int64_t begin,
                  int64_t end);
  void (*backward)(Rows logits, const int32_t* targets, const float* lse, const float* dlosses, Rows dlogits,
                   int64_t vocabulary, int64_t begin, int64_t end);
};
CADRE_SIMD_TABLE(CrossEntropyTable, kCrossEntropyTable)

}  // namespace cadre::cpu
