#include "autograd/parameter.h"

#include <algorithm>
#include <cstring>
#include <utility>

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
  clear_gradient();
}

Tensor Parameter::value_of(int64_t first, int64_t count) const {
  return count == groups() ? value : value.slice(first, first + count);
}

Tensor Parameter::gradient_of(int64_t first, int64_t count) const {
  return count == groups() ? gradient : gradient.slice(first, first + count);
}

bool Parameter::claim_empty(int64_t first, int64_t count) {
  filled_.resize(static_cast<size_t>(groups()));
  const auto begin = filled_.begin() + first, end = begin + count;
  const bool all_empty = std::find(begin, end, true) == end;
  for (int64_t group = first; group < first + count && !all_empty; ++group) {
    const Tensor part = gradient_of(group, 1);
    if (!filled_[static_cast<size_t>(group)]) std::memset(part.raw(), 0, part.bytes());
  }
  std::fill(begin, end, true);
  return all_empty;
}

bool Parameter::gradient_empty() const { return std::find(filled_.begin(), filled_.end(), true) == filled_.end(); }

void Parameter::zero_gradient_if_empty() {
  borrow_gradient();
  if (claim_empty(0, groups())) std::memset(gradient.raw(), 0, gradient.bytes());
}

kernels::RightOperand Parameter::operand(const Context& context, kernels::Operand operand, TensorView part) {
  const TensorView weights = as_groups(value);
  const int64_t count = as_groups(part).shape[0];
  const int64_t group_bytes = std::max<int64_t>(1, static_cast<int64_t>(value.bytes()) / groups());
  const int64_t first = (static_cast<char*>(part.data) - static_cast<char*>(value.raw())) / group_bytes;
  Packed& cached = packed_[operand == kernels::Operand::kTransposed ? 1 : 0];
  if (cached.version == version_) return cached.operand.slice(first, count);
  cached.used.resize(static_cast<size_t>(groups()), -1);
  const bool first_use = std::exchange(cached.used[static_cast<size_t>(first)], version_) != version_;
  if (operand == kernels::Operand::kAsStored && first_use) return kernels::as_stored(weights).slice(first, count);
  if (!cached.storage) {
    const int64_t elements = kernels::packed_elements(context.exec, weights, operand);
    cached.storage = Tensor::empty(context.allocator, value.dtype(), Shape{elements});
  }
  cached.operand = kernels::pack(context.exec, weights, operand, cached.storage);
  cached.version = version_;
  return cached.operand.slice(first, count);
}

}  // namespace cadre::autograd
