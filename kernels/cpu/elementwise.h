#pragma once
// The f32 code of kernels/elementwise.h, per instruction set. Serial; every function works on contiguous runs.

#include <cstdint>

#include "kernels/cpu/isa.h"

namespace cadre::cpu {

// A matrix of floats as code of one instruction set takes it: row r begins at data + r * stride.
struct Rows {
  float* data;
  int64_t stride;
};

struct ElementwiseTable {
  void (*fill)(float value, float* x, int64_t count);
  void (*add)(const float* a, const float* b, float* out, int64_t count);  // out may be a or b
  void (*scale)(float factor, float* x, int64_t count);
  // Sixteen running sums in double, element i in sum i % 16, then a tree over them: the same bits in every instruction
  // set.
  double (*block_sum)(const float* x, int64_t count);
  float (*dot)(const float* a, const float* b, int64_t count);
};
CADRE_SIMD_TABLE(ElementwiseTable, kElementwiseTable)

}  // namespace cadre::cpu
