#pragma once
// Serial pieces of the f32 parameter updates, per instruction set. Elementwise: an element's bits do not depend on
// where a piece begins.

#include <cstdint>

#include "kernels/cpu/isa.h"

namespace cadre::cpu {

struct AdamWPiece {
  float* weights;
  const float* gradients;
  float* m;
  float* v;
  int64_t count;
  float beta1;
  float beta2;
  float one_minus_beta1;  // rounded from double: 1 - 0.999f has only 14 good bits
  float one_minus_beta2;
  float eps;
  float step_size;     // lr / (1 - beta1^step)
  float v_correction;  // 1 / (1 - beta2^step)
  float decay;         // lr * weight_decay
  float gradient_scale;
};

struct SgdPiece {
  float* weights;
  const float* gradients;
  float* buffer;
  int64_t count;
  float lr;
  float momentum;
  float decay;  // lr * weight_decay
  float gradient_scale;
  bool nesterov;
};

struct OptimizerTable {
  void (*adamw)(const AdamWPiece&);
  void (*sgd)(const SgdPiece&);
  // Sum of squares in f64: 16 interleaved partial sums, then a tree over them; the same bits on every instruction set,
  // since the square of a float is exact in a double.
  double (*sum_of_squares)(const float* x, int64_t count);
  // y = x - y.
  void (*subtract_from)(const float* x, float* y, int64_t count);
};

CADRE_SIMD_TABLE(OptimizerTable, kOptimizerTable)

}  // namespace cadre::cpu
