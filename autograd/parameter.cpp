#include "autograd/parameter.h"

#include <cstring>

namespace cadre::autograd {

TensorView as_groups(TensorView weights) {
  if (weights.shape.rank() == 2) weights.shape = Shape{1, weights.shape[0], weights.shape[1]};
  return weights;
}

void Parameter::borrow_gradient() {
  if (!gradient && lend_gradient) gradient = lend_gradient();
}

void Parameter::give_back_gradient() {
  gradient = Tensor();
  gradient_empty = true;
}

void Parameter::zero_gradient_if_empty() {
  if (!gradient_empty) return;
  borrow_gradient();
  std::memset(gradient.raw(), 0, gradient.bytes());
  gradient_empty = false;
}

kernels::RightOperand Parameter::operand(const Context& context, kernels::Operand operand) {
  const TensorView weights = as_groups(value);
  Packed& cached = packed_[operand == kernels::Operand::kTransposed ? 1 : 0];
  if (cached.version == version_) return cached.operand;
  const bool first_use = cached.used != version_;
  cached.used = version_;
  if (operand == kernels::Operand::kAsStored && first_use) return kernels::as_stored(weights);
  if (!cached.storage) {
    const int64_t elements = kernels::packed_elements(context.exec, weights, operand);
    cached.storage = Tensor::empty(context.allocator, value.dtype(), Shape{elements});
  }
  cached.operand = kernels::pack(context.exec, weights, operand, cached.storage);
  cached.version = version_;
  return cached.operand;
}

}  // namespace cadre::autograd
