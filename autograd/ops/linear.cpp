#include "autograd/ops/linear.h"

#include "kernels/gemm.h"

namespace cadre::autograd {
namespace {

int64_t groups_of(const Shape& weight) { return weight.rank() == 3 ? weight[0] : 1; }

// The weight as an operand from the parameter's cache, or for this call when it is no parameter.
kernels::RightOperand operand_of(const Context& context, Parameter* parameter, TensorView weight,
                                 kernels::Operand operand, Tensor& storage) {
  if (parameter != nullptr) return parameter->operand(context, operand, weight);
  const TensorView grouped = as_groups(weight);
  if (operand == kernels::Operand::kAsStored) return kernels::as_stored(grouped);
  storage =
      Tensor::empty(context.allocator, weight.dtype, Shape{kernels::packed_elements(context.exec, grouped, operand)});
  return kernels::pack(context.exec, grouped, operand, storage);
}

}  // namespace

std::vector<TensorSpec> GroupedLinear::infer(std::span<const TensorSpec> in) const {
  require(in.size() == (lanes_ > 1 ? 4 : 3) && in[0].shape.rank() == 2 && in[1].shape.rank() >= 2, in,
          "x [rows, in], weight [.., out, in], offsets");
  const Shape &x = in[0].shape, &weight = in[1].shape;
  require(x[1] == weight[-1] && in[0].dtype == in[1].dtype, in, "x [rows, in] and weight [.., out, in] of one type");
  const bool has_offsets = in[2].shape.rank() == 1;
  require(has_offsets ? in[2].shape[0] == groups_of(weight) + 1 : groups_of(weight) == 1, in, "offsets [groups + 1]");
  require(lanes_ == 1 || in[3].shape == Shape{groups_of(weight) * lanes_ + 1}, in, "offsets [groups * lanes + 1]");
  return {{in[0].dtype, Shape{x[0], weight[-2]}}};
}

void GroupedLinear::forward(const Forward& f) const {
  Tensor storage;
  const kernels::RightOperand right =
      operand_of(f.context, f.parameters[1], f.in[1], kernels::Operand::kTransposed, storage);
  kernels::grouped_gemm(f.context.exec, f.in[0], f.in[2], right, f.out[0], kernels::Write::kOverwrite);
}

void GroupedLinear::backward_inputs(Backward& b) const {
  if (!b.wants(0)) return;
  const Backward::Target dx = b.target(0);
  Tensor storage;
  const kernels::RightOperand right =
      operand_of(b.context(), b.parameter(1), b.in(1), kernels::Operand::kAsStored, storage);
  kernels::grouped_gemm(b.context().exec, b.gradient(0), b.in(2), right, dx.view, dx.write);
}

void GroupedLinear::backward_parameters(Backward& b) const {
  if (!b.wants(1)) return;
  const Backward::Target dw = b.target(1);
  const TensorView by_group = as_groups(dw.view);
  const bool apart = lanes_ > 1 && by_group.shape[0] == groups_of(b.in(1).shape) * lanes_;
  kernels::grouped_weight_gradient(b.context().exec, b.gradient(0), b.in(0), b.in(apart ? 3 : 2), by_group, dw.write);
}

Cost GroupedLinear::cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const {
  Cost cost = Op::cost(in, out);
  cost.flops = 2.0 * static_cast<double>(in[0].shape[0]) * static_cast<double>(in[0].shape[1]) *
               static_cast<double>(out[0].shape[1]);
  return cost;
}

}  // namespace cadre::autograd
