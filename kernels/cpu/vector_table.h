#pragma once
// The functions of kernels/cpu/vector.h over arrays, so that every instruction set's version can be tested.

#include <cstdint>

#include "kernels/cpu/isa.h"

namespace cadre::cpu {

struct VectorTable {
  int64_t width;  // lanes
  void (*exp)(const float* x, int64_t count, float* out);
  void (*log)(const float* x, int64_t count, float* out);
  void (*tanh)(const float* x, int64_t count, float* out);
  void (*sigmoid)(const float* x, int64_t count, float* out);
  void (*sqrt)(const float* x, int64_t count, float* out);
  float (*sum)(const float* x);           // of one vector
  float (*max_lane)(const float* x);      // of one vector
  double (*sum_widened)(const float* x);  // of one vector, through both halves in double
};

CADRE_SIMD_TABLE(VectorTable, kVectorTable)

}  // namespace cadre::cpu
