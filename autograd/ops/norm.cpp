#include "autograd/ops/norm.h"

#include "kernels/elementwise.h"
#include "kernels/norm.h"

namespace cadre::autograd {

std::vector<TensorSpec> RmsNorm::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[1].shape.rank() == 1 && in[0].shape.cols() == in[1].shape[0], in,
          "x [rows, cols], weight [cols]");
  return {in[0], {in[0].dtype, Shape{in[0].shape.rows()}}};
}

void RmsNorm::forward(const Forward& f) const {
  kernels::rms_norm_forward(f.context.exec, f.in[0], f.in[1], eps_, f.out[0], f.out[1]);
}

void RmsNorm::backward_inputs(Backward& b) const {
  if (!b.wants(0)) return;
  const Backward::Target dx = b.target(0);
  kernels::rms_norm_backward(b.context().exec, b.in(0), b.in(1), b.out(1), b.gradient(0), dx.view, dx.write);
}

void RmsNorm::backward_parameters(Backward& b) const {
  if (!b.wants(1)) return;
  const Backward::Target dweight = b.target(1);
  kernels::rms_norm_weight_gradient(b.context().exec, b.in(0), b.out(1), b.gradient(0), dweight.view, dweight.write);
}

std::vector<TensorSpec> AddRmsNorm::infer(std::span<const TensorSpec> in) const {
  require(
      in.size() == 3 && in[0].shape == in[1].shape && in[2].shape.rank() == 1 && in[0].shape.cols() == in[2].shape[0],
      in, "x and branch [rows, cols], weight [cols]");
  return {in[0], in[0], {in[0].dtype, Shape{in[0].shape.rows()}}};
}

void AddRmsNorm::forward(const Forward& f) const {
  kernels::add_rms_norm_forward(f.context.exec, f.in[0], f.in[1], f.in[2], eps_, f.out[0], f.out[1], f.out[2]);
}

// d(sum) = arriving d(sum) + norm'(dy), and both addends take it unchanged.
void AddRmsNorm::backward_inputs(Backward& b) const {
  const auto& exec = b.context().exec;
  if (!b.gradient(1)) {
    if (b.wants(0)) b.pass(0, 0);
    if (b.wants(1)) b.pass(1, 0);
    return;
  }
  const bool arrived = static_cast<bool>(b.gradient(0));
  const TensorView dsum = b.writable_gradient(0);
  kernels::rms_norm_backward(exec, b.out(0), b.in(2), b.out(2), b.gradient(1), dsum,
                             arrived ? kernels::Write::kAccumulate : kernels::Write::kOverwrite);
  if (b.wants(0)) b.pass(0, 0);
  if (b.wants(1)) b.pass(1, 0);
}

void AddRmsNorm::backward_parameters(Backward& b) const {
  if (!b.wants(2)) return;
  const Backward::Target dweight = b.target(2);
  if (!b.gradient(1)) {
    if (dweight.write == kernels::Write::kOverwrite) kernels::fill(b.context().exec, dweight.view, 0);
    return;
  }
  kernels::rms_norm_weight_gradient(b.context().exec, b.out(0), b.out(2), b.gradient(1), dweight.view, dweight.write);
}

std::vector<TensorSpec> Add::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape == in[1].shape && in[0].dtype == in[1].dtype, in,
          "two tensors of one shape and type");
  return {in[0]};
}

void Add::forward(const Forward& f) const { kernels::add(f.context.exec, f.in[0], f.in[1], f.out[0]); }

void Add::backward_inputs(Backward& b) const {
  for (size_t i = 0; i < 2; ++i) {
    if (b.wants(i)) b.pass(i, 0);
  }
}

}  // namespace cadre::autograd
