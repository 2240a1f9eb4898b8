#pragma once
// Fast rotary embedding with QK-norm for f32, one pass over each token's heads.

#include <cstdint>

#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/isa.h"

namespace cadre::cpu {

struct RotaryArgs {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  float norm_eps = 0;
  Rows qkv, table, out, rstd, dout, dqkv;
  const int32_t* positions = nullptr;
  const float* q_weight = nullptr;  // null: no norm
  const float* k_weight = nullptr;
};

// Serial functions of one instruction set over tokens [begin, end).
struct RotaryTable {
  void (*forward)(const RotaryArgs& args, int64_t begin, int64_t end);
  void (*backward)(const RotaryArgs& args, int64_t begin, int64_t end);
  // Overwrites dq_weight and dk_weight, [head_dim] each, with these tokens' part.
  void (*weight_gradient)(const RotaryArgs& args, int64_t begin, int64_t end, float* dq_weight, float* dk_weight);
};
CADRE_SIMD_TABLE(RotaryTable, kRotaryTable)

void rotary_forward(const kernels::Exec& exec, const kernels::RotaryShape& shape, TensorView qkv, TensorView positions,
                    TensorView table, TensorView q_weight, TensorView k_weight, TensorView out, TensorView rstd);
void rotary_backward(const kernels::Exec& exec, const kernels::RotaryShape& shape, TensorView qkv, TensorView positions,
                     TensorView table, TensorView q_weight, TensorView k_weight, TensorView rstd, TensorView dout,
                     TensorView dqkv);
void rotary_weight_gradient(const kernels::Exec& exec, const kernels::RotaryShape& shape, TensorView qkv,
                            TensorView positions, TensorView table, TensorView rstd, TensorView dout,
                            TensorView dq_weight, TensorView dk_weight, kernels::Write write);

}  // namespace cadre::cpu
