#pragma once
// Fast attention for f32: what kernels/attention.cpp calls after its checks, and the serial functions of one
// instruction set underneath.
//
// Queries are taken in panels: a panel is up to 2 vectors of lanes, one query row a lane. Query rows of one kv head are
// numbered query * group + (head within the group), so a panel holds neighbouring queries and all heads that read the
// same keys. Scores are kept transposed, [key][lane]: maxima, sums and exponentials then run along lanes without any
// sum across a vector, keys and values are read in place, and one decoded query of few heads still fills vectors.

#include <cstdint>

#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/cpu/isa.h"

namespace cadre::cpu {

struct Rows {
  float* data = nullptr;
  int64_t stride = 0;  // elements from one row to the next
};

struct AttentionArgs {
  int64_t units = 0;
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t key_stride = 0;
  int64_t kv_heads = 0;
  int64_t group = 0;  // heads / kv_heads
  int64_t head_dim = 0;
  float scale = 0;
  Rows q, k, v, out, lse, dout, dq, dk, dv;
  const int32_t* segment_start = nullptr;  // null: every sequence is one document
};

// A unit is one kv head of one sequence: sequence * kv_heads + kv head. Ranges are half open.
struct AttentionTable {
  int64_t lanes;                                          // query rows of a panel
  int64_t (*forward_scratch)(const AttentionArgs& args);  // bytes
  void (*forward)(const AttentionArgs& args, int64_t unit, int64_t panel_begin, int64_t panel_end, void* scratch);
  int64_t (*backward_scratch)(const AttentionArgs& args, int64_t keys);  // bytes, `keys` of dk and dv at a time
  // dq of the panels' rows from all of their keys (when wanted), and dk, dv of the keys from those panels (when
  // wanted). Every element is one chain of sums in ascending order, so it does not matter how a unit is cut.
  void (*backward)(const AttentionArgs& args, int64_t unit, int64_t panel_begin, int64_t panel_end, int64_t key_begin,
                   int64_t key_end, bool want_dq, bool want_dkv, void* scratch);
};
CADRE_SIMD_TABLE(AttentionTable, kAttentionTable)

void attention_forward(const kernels::Exec& exec, const kernels::AttentionShape& shape, TensorView q, TensorView k,
                       TensorView v, TensorView segment_start, TensorView out, TensorView lse);
void attention_backward(const kernels::Exec& exec, const kernels::AttentionShape& shape, TensorView q, TensorView k,
                        TensorView v, TensorView segment_start, TensorView out, TensorView lse, TensorView dout,
                        TensorView dq, TensorView dk, TensorView dv);

}  // namespace cadre::cpu
