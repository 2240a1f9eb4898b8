#include "autograd/ops/cross_entropy.h"

#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"

namespace cadre::autograd {

std::vector<TensorSpec> CrossEntropy::infer(std::span<const TensorSpec> in) const {
  require(
      in.size() == 2 && in[0].shape.rank() == 2 && in[1].shape == Shape{in[0].shape[0]} && in[1].dtype == Dtype::kI32,
      in, "logits [tokens, vocabulary], targets i32 [tokens]");
  const TensorSpec per_token{in[0].dtype, Shape{in[0].shape[0]}};
  return {{Dtype::kF64, Shape{1}}, per_token, per_token};
}

void CrossEntropy::forward(const Forward& f) const {
  kernels::cross_entropy_forward(f.context.exec, f.in[0], f.in[1], f.out[1], f.out[2]);
  *f.out[0].as<double>() = weight_ * kernels::sum(f.context.exec, f.out[1]);
}

void CrossEntropy::backward_inputs(Backward& b) const {
  const Context& context = b.context();
  const TensorView logits = b.in(0);
  const Tensor dlosses = Tensor::empty(context.allocator, logits.dtype, Shape{logits.rows()});
  kernels::fill(context.exec, dlosses, weight_ * *b.gradient(0).as<double>());
  kernels::cross_entropy_backward(context.exec, logits, b.in(1), b.out(2), dlosses, b.target_over_input(0));
}

}  // namespace cadre::autograd
