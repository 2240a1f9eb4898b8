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

Parameter::Target Parameter::claim(int64_t first, int64_t count, int use) {
  Slot& slot = slot_of(use);
  if (!slot.target) borrow_gradient();
  const int64_t begin = first * slot.lanes, parts = count * slot.lanes;
  const Tensor& all = slot.target ? slot.target : gradient;
  const auto part_of = [&](int64_t at, int64_t number) {
    const Shape wanted = shape.rank() == 3 ? shape.with(0, number) : shape;
    return all.flat_slice(at * (shape.elements() / groups()), wanted);
  };
  slot.filled.resize(static_cast<size_t>(groups() * slot.lanes));
  const auto from = slot.filled.begin() + begin, to = from + parts;
  const bool all_empty = std::find(from, to, true) == to;
  for (int64_t at = begin; at < begin + parts && !all_empty; ++at) {
    if (slot.filled[static_cast<size_t>(at)]) continue;
    const Tensor part = part_of(at, 1);
    std::memset(part.raw(), 0, part.bytes());
  }
  std::fill(from, to, true);
  return {part_of(begin, parts), all_empty};
}

bool Parameter::gradient_empty(int use) const {
  const std::vector<bool>& filled = slots_[std::min(static_cast<size_t>(use), slots_.size() - 1)].filled;
  return std::find(filled.begin(), filled.end(), true) == filled.end();
}

void Parameter::clear_gradient() {
  for (Slot& slot : slots_) slot.filled.clear();
}

void Parameter::zero_gradient_if_empty(int use) {
  const Target target = claim(0, groups(), use);
  if (target.empty) std::memset(target.gradient.raw(), 0, target.gradient.bytes());
}

void Parameter::write_gradient_to(int use, Tensor target, int target_lanes) {
  slots_.resize(static_cast<size_t>(uses));
  slots_[static_cast<size_t>(use)] = {std::move(target), target_lanes, {}};
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
