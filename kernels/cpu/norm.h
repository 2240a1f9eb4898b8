#pragma once
// The f32 code of kernels/norm.h, per instruction set. Serial, over rows [begin, end).

#include <cstdint>

#include "kernels/cpu/elementwise.h"

namespace cadre::cpu {

struct NormForward {
  Rows x;
  Rows branch;  // data null: no residual add
  Rows sum;     // written with branch; may be x
  const float* weight;
  float eps;
  Rows y;
  float* rstd;
  int64_t cols;
};

struct NormBackward {
  Rows x;
  const float* weight;  // not read by weight_block
  const float* rstd;
  Rows dy;
  Rows dx;  // not touched by weight_block
  bool accumulate;
  int64_t cols;
};

struct NormTable {
  void (*forward)(const NormForward& norm, int64_t begin, int64_t end);
  void (*backward)(const NormBackward& norm, int64_t begin, int64_t end);
  // partial [cols] = sum of dy * x * rstd over the rows, in order.
  void (*weight_block)(const NormBackward& norm, int64_t begin, int64_t end, float* partial);
};
CADRE_SIMD_TABLE(NormTable, kNormTable)

}  // namespace cadre::cpu
