#include "autograd/ops/attention.h"

namespace cadre::autograd {
namespace {

struct Parts {
  TensorView q, k, v;
};

Parts parts_of(const kernels::AttentionShape& shape, TensorView qkv) {
  const int64_t q = shape.heads * shape.head_dim, kv = shape.kv_heads * shape.head_dim;
  return {qkv.columns(0, q), qkv.columns(q, q + kv), qkv.columns(q + kv, q + 2 * kv)};
}

}  // namespace

std::vector<TensorSpec> Rotary::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 5 && in[0].shape.rank() == 2, in, "qkv, positions, table, q_weight, k_weight");
  const int64_t tokens = in[0].shape[0];
  require(in[0].shape[1] == (shape_.heads + 2 * shape_.kv_heads) * shape_.head_dim, in,
          "qkv [tokens, (heads + 2 kv_heads) head_dim]");
  require(in[1].shape == Shape{tokens} && in[2].shape.rank() == 2 && in[2].shape[1] == shape_.head_dim, in,
          "positions [tokens], table [positions, head_dim]");
  require(!has_norm_ || (in[3].shape == Shape{shape_.head_dim} && in[4].shape == in[3].shape), in,
          "q_weight and k_weight [head_dim]");
  return {in[0], {in[0].dtype, Shape{tokens, has_norm_ ? shape_.heads + shape_.kv_heads : 0}}};
}

void Rotary::forward(const Forward& f) const {
  kernels::rotary_forward(f.context.exec, shape_, f.in[0], f.in[1], f.in[2], f.in[3], f.in[4], f.out[0],
                          has_norm_ ? f.out[1] : TensorView{});
}

Needs Rotary::needs() const {
  if (!has_norm_) return {.inputs = 0b00110};
  return {.inputs = 0b11111, .outputs = 0b10};
}

void Rotary::backward_inputs(Backward& b) const {
  if (!b.wants(0)) return;
  // Without a norm only the shape of qkv counts, and it is not kept.
  const TensorView qkv = has_norm_ ? b.in(0) : b.gradient(0);
  kernels::rotary_backward(b.context().exec, shape_, qkv, b.in(1), b.in(2), has_norm_ ? b.in(3) : TensorView{},
                           has_norm_ ? b.in(4) : TensorView{}, has_norm_ ? b.out(1) : TensorView{}, b.gradient(0),
                           b.target(0).view);
}

void Rotary::backward_parameters(Backward& b) const {
  if (!has_norm_) return;
  kernels::rotary_weight_gradient(b.context().exec, shape_, b.in(0), b.in(1), b.in(2), b.out(1), b.gradient(0),
                                  b.target(3).view, b.target(4).view, kernels::Write::kOverwrite);
}

std::vector<TensorSpec> Attention::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape.rank() == 2 && in[0].shape[0] == shape_.batch * shape_.queries &&
              in[0].shape[1] == (shape_.heads + 2 * shape_.kv_heads) * shape_.head_dim,
          in, "qkv [batch * sequence, (heads + 2 kv_heads) head_dim], segment_start [batch * sequence] or none");
  require(in[1].shape.rank() == 0 || in[1].shape == Shape{in[0].shape[0]}, in, "segment_start [batch * sequence]");
  return {{in[0].dtype, Shape{in[0].shape[0], shape_.heads * shape_.head_dim}},
          {in[0].dtype, Shape{in[0].shape[0], shape_.heads}}};
}

void Attention::forward(const Forward& f) const {
  const Parts qkv = parts_of(shape_, f.in[0]);
  kernels::attention_forward(f.context.exec, shape_, qkv.q, qkv.k, qkv.v, f.in[1], f.out[0], f.out[1]);
}

void Attention::backward_inputs(Backward& b) const {
  const Parts qkv = parts_of(shape_, b.in(0));
  const Parts d = parts_of(shape_, b.target(0).view);
  kernels::attention_backward(b.context().exec, shape_, qkv.q, qkv.k, qkv.v, b.in(1), b.out(0), b.out(1), b.gradient(0),
                              d.q, d.k, d.v);
}

std::vector<TensorSpec> CachedAttention::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 3 && in[0].shape.rank() == 2 && in[0].shape[0] == shape_.batch * shape_.queries &&
              in[1].shape == Shape{shape_.batch * shape_.key_stride, shape_.kv_heads * shape_.head_dim} &&
              in[2].shape == in[1].shape,
          in, "qkv [batch * queries, ..], keys and values [batch * key_stride, kv_heads * head_dim]");
  return {{in[0].dtype, Shape{in[0].shape[0], shape_.heads * shape_.head_dim}},
          {in[0].dtype, Shape{in[0].shape[0], shape_.heads}}};
}

void CachedAttention::forward(const Forward& f) const {
  const TensorView q = f.in[0].columns(0, shape_.heads * shape_.head_dim);
  kernels::attention_forward(f.context.exec, shape_, q, f.in[1], f.in[2], TensorView{}, f.out[0], f.out[1]);
}

Cost Attention::cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const {
  Cost cost = Op::cost(in, out);
  const double pairs = 0.5 * static_cast<double>(shape_.batch * shape_.queries * (shape_.queries + 1));
  cost.flops = 4.0 * pairs * static_cast<double>(shape_.heads * shape_.head_dim);
  return cost;
}

}  // namespace cadre::autograd
