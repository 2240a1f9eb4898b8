#pragma once
// Attention and what prepares its input.

#include "autograd/op.h"
#include "kernels/attention.h"

namespace cadre::autograd {

// qkv [tokens, (heads + 2 kv_heads) head_dim], positions i32 [tokens], table [positions, head_dim], q_weight and
// k_weight [head_dim] or absent -> the same with QK-norm (when weights are given) and rotary embedding, rstd [tokens,
// heads + kv_heads].
class Rotary final : public Op {
 public:
  Rotary(kernels::RotaryShape shape, bool has_norm) : shape_(shape), has_norm_(has_norm) {}
  const char* name() const override { return "rotary"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override;
  void backward_inputs(Backward& b) const override;
  void backward_parameters(Backward& b) const override;
  uint32_t parameter_inputs() const override { return 0b11000; }

 private:
  kernels::RotaryShape shape_;
  bool has_norm_;
};

// qkv [batch * sequence, (heads + 2 kv_heads) head_dim], segment_start i32 [batch * sequence] or absent
// -> out [batch * sequence, heads * head_dim], lse [batch * sequence, heads]. Causal.
class Attention final : public Op {
 public:
  explicit Attention(kernels::AttentionShape shape) : shape_(shape) {}
  const char* name() const override { return "attention"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b11, .outputs = 0b11}; }
  void backward_inputs(Backward& b) const override;
  // Counts the causal half only.
  Cost cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const override;
  double input_gradient_work() const override { return 2.5; }  // five products instead of two

 private:
  kernels::AttentionShape shape_;
};

// Inference only. qkv as above for the newest positions, keys and values [batch * key_stride, kv_heads * head_dim]
// caches that already hold them -> out [batch * queries, heads * head_dim].
class CachedAttention final : public Op {
 public:
  explicit CachedAttention(kernels::AttentionShape shape) : shape_(shape) {}
  const char* name() const override { return "cached_attention"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {}; }
  void backward_inputs(Backward&) const override {}
  uint32_t differentiable_outputs() const override { return 0; }

 private:
  kernels::AttentionShape shape_;
};

}  // namespace cadre::autograd
