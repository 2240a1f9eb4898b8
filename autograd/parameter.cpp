#include "autograd/parameter.h"

#include <cstring>

namespace cadre::autograd {

TensorView as_groups(TensorView weights) {
  if (weights.shape.rank() == 2) weights.shape = Shape{1, weights.shape[0], weights.shape[1]};
  return weights;
}

void Parameter::zero_gradient_if_empty() {
  if (!gradient_empty) return;
  std::memset(gradient.raw(), 0, gradient.bytes());
  gradient_empty = false;
}

const kernels::PackedMatrix& Parameter::packed(const Context& context, kernels::Operand operand) {
  Packed& packed = packed_[operand == kernels::Operand::kTransposed ? 1 : 0];
  if (packed.version == version_) return packed.matrix;
  const TensorView weights = as_groups(value);
  const bool transposed = operand == kernels::Operand::kTransposed;
  const int64_t k = weights.shape[transposed ? 2 : 1], n = weights.shape[transposed ? 1 : 2];
  if (!packed.storage) {
    const int64_t elements = kernels::packed_elements(context.exec, value.dtype(), weights.shape[0], k, n);
    packed.storage = Tensor::empty(context.allocator, value.dtype(), Shape{elements});
  }
  packed.matrix = kernels::pack_matrix(context.exec, weights, operand, packed.storage);
  packed.version = version_;
  return packed.matrix;
}

}  // namespace cadre::autograd
