#pragma once
// Causal grouped-query attention in blocks with a running softmax (Dao et al., FlashAttention-2, 2023): no
// sequence x sequence matrix is kept. Blocks above the diagonal, or before a document's start, are skipped.

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

struct AttentionShape {
  int64_t batch = 0;
  int64_t queries = 0;     // query positions per sequence
  int64_t keys = 0;        // key positions per sequence; query i stands at key position keys - queries + i
  int64_t key_stride = 0;  // rows from one sequence's keys to the next (>= keys; a KV cache has spare rows)
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; head h reads kv head h / (heads / kv_heads)
  int64_t head_dim = 0;
  double scale = 0;  // usually 1 / sqrt(head_dim)
};

// q, out [batch * queries, heads * head_dim]; k, v [batch * key_stride, kv_heads * head_dim]; rows may be strided.
// segment_start: i32 [batch * queries], the first key position that a query may see (start of its document), or empty.
// lse [batch * queries, heads]: log of the softmax denominator, natural, for the backward.
void attention_forward(const Exec& exec, const AttentionShape& shape, TensorView q, TensorView k, TensorView v,
                       TensorView segment_start, TensorView out, TensorView lse);

// Overwrites dq, dk, dv (shaped and strided as q, k, v; keys = queries = key_stride).
void attention_backward(const Exec& exec, const AttentionShape& shape, TensorView q, TensorView k, TensorView v,
                        TensorView segment_start, TensorView out, TensorView lse, TensorView dout, TensorView dq,
                        TensorView dk, TensorView dv);

// What attention reads: optional RMSNorm per head on q and k (Qwen3's QK-norm), then rotary embedding (Su et al.,
// RoFormer, 2021; the two halves of a head are rotated against each other, as Hugging Face does). v is copied.
struct RotaryShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  double norm_eps = 1e-6;
};

// table [positions, head_dim]: cos of the head_dim / 2 angles, then sin; angle = position * theta^(-2 i / head_dim).
void rotary_table(const Exec& exec, double theta, TensorView table);

// qkv, out [tokens, (heads + 2 kv_heads) * head_dim]; positions i32 [tokens]; q_weight, k_weight [head_dim] or empty
// (no norm). rstd [tokens, heads + kv_heads]: 1 / rms of each head, written only with weights; else empty.
void rotary_forward(const Exec& exec, const RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                    TensorView q_weight, TensorView k_weight, TensorView out, TensorView rstd);
void rotary_backward(const Exec& exec, const RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                     TensorView q_weight, TensorView k_weight, TensorView rstd, TensorView dout, TensorView dqkv);
// dq_weight, dk_weight [head_dim].
void rotary_weight_gradient(const Exec& exec, const RotaryShape& shape, TensorView qkv, TensorView positions,
                            TensorView table, TensorView rstd, TensorView dout, TensorView dq_weight,
                            TensorView dk_weight, Write write);

}  // namespace cadre::kernels
