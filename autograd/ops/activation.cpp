#include "autograd/ops/activation.h"

namespace cadre::autograd {
namespace {

// The last offset, as a one-element view.
TensorView rows_end(TensorView offsets) {
  if (!offsets) return offsets;
  return offsets.columns(offsets.cols() - 1, offsets.cols());
}

}  // namespace

std::vector<TensorSpec> ExpertActivation::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape.rank() == 2, in, "h [rows, cols], offsets or none");
  require(kind_ != kernels::Activation::kSwiGlu || in[0].shape[1] % 2 == 0, in, "h [rows, 2 f]");
  const int64_t f = kind_ == kernels::Activation::kSwiGlu ? in[0].shape[1] / 2 : in[0].shape[1];
  return {{in[0].dtype, Shape{in[0].shape[0], f}}};
}

void ExpertActivation::forward(const Forward& f) const {
  kernels::activation_forward(f.context.exec, kind_, f.in[0], rows_end(f.in[1]), f.out[0]);
}

void ExpertActivation::backward_inputs(Backward& b) const {
  const TensorView h = b.in(0);
  kernels::activation_backward(b.context().exec, kind_, h, rows_end(b.in(1)), b.gradient(0), b.target_over_input(0));
}

}  // namespace cadre::autograd
