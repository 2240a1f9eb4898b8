#include "autograd/ops/linear.h"

#include "kernels/gemm.h"

namespace cadre::autograd {
namespace {

int64_t groups_of(const Shape& weight) { return weight.rank() == 3 ? weight[0] : 1; }

// out = a B, with B from the parameter's cache, or packed for this call when the weight is no parameter.
void multiply(const Context& context, Parameter* parameter, TensorView weight, kernels::Operand operand, TensorView a,
              TensorView offsets, TensorView out, kernels::Write write) {
  if (parameter != nullptr) {
    kernels::grouped_gemm(context.exec, a, offsets, parameter->packed(context, operand), out, write);
    return;
  }
  const TensorView grouped = as_groups(weight);
  const bool transposed = operand == kernels::Operand::kTransposed;
  const int64_t k = grouped.shape[transposed ? 2 : 1], n = grouped.shape[transposed ? 1 : 2];
  const int64_t elements = kernels::packed_elements(context.exec, weight.dtype, grouped.shape[0], k, n);
  const Tensor storage = Tensor::empty(context.allocator, weight.dtype, Shape{elements});
  const kernels::PackedMatrix packed = kernels::pack_matrix(context.exec, grouped, operand, storage);
  kernels::grouped_gemm(context.exec, a, offsets, packed, out, write);
}

}  // namespace

std::vector<TensorSpec> GroupedLinear::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 3 && in[0].shape.rank() == 2 && in[1].shape.rank() >= 2, in,
          "x [rows, in], weight [.., out, in], offsets");
  const Shape &x = in[0].shape, &weight = in[1].shape;
  require(x[1] == weight[-1] && in[0].dtype == in[1].dtype, in, "x [rows, in] and weight [.., out, in] of one type");
  const bool has_offsets = in[2].shape.rank() == 1;
  require(has_offsets ? in[2].shape[0] == groups_of(weight) + 1 : groups_of(weight) == 1, in, "offsets [groups + 1]");
  return {{in[0].dtype, Shape{x[0], weight[-2]}}};
}

void GroupedLinear::forward(const Forward& f) const {
  multiply(f.context, f.parameters[1], f.in[1], kernels::Operand::kTransposed, f.in[0], f.in[2], f.out[0],
           kernels::Write::kOverwrite);
}

void GroupedLinear::backward_inputs(Backward& b) const {
  if (!b.wants(0)) return;
  const Backward::Target dx = b.target(0);
  multiply(b.context(), b.parameter(1), b.in(1), kernels::Operand::kAsStored, b.gradient(0), b.in(2), dx.view,
           dx.write);
}

void GroupedLinear::backward_parameters(Backward& b) const {
  if (!b.wants(1)) return;
  const Backward::Target dw = b.target(1);
  kernels::grouped_weight_gradient(b.context().exec, b.gradient(0), b.in(0), b.in(2), as_groups(dw.view), dw.write);
}

Cost GroupedLinear::cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const {
  Cost cost = Op::cost(in, out);
  cost.flops = 2.0 * static_cast<double>(in[0].shape[0]) * static_cast<double>(in[0].shape[1]) *
               static_cast<double>(out[0].shape[1]);
  return cost;
}

}  // namespace cadre::autograd
