#include "autograd/backward_call.h"

#include <algorithm>

#include "kernels/elementwise.h"

namespace cadre::autograd {

namespace {

Parameter::Target claim(const Node& node) {
  return node.parameter->claim(node.first_group, node.shape.rank() == 3 ? node.shape[0] : 1, node.use);
}

}  // namespace

bool Record::reached() const {
  return std::any_of(out_nodes.begin(), out_nodes.end(), [](const auto& node) { return bool(node->gradient); });
}

bool Record::can_defer_parameters() const {
  for (size_t i = 0; i < in_nodes.size(); ++i) {
    const bool trainable = in_mask(op->parameter_inputs(), i) && in_nodes[i] && in_nodes[i]->requires_gradient;
    if (trainable && in_nodes[i]->parameter == nullptr) return false;
  }
  return true;
}

bool BackwardCall::wants_any(bool parameters) const {
  for (size_t i = 0; i < record_.in_nodes.size(); ++i) {
    const bool is_parameter = in_mask(record_.op->parameter_inputs(), i);
    if (is_parameter == parameters && wants(i)) return true;
  }
  return false;
}

TensorView BackwardCall::in(size_t i) const {
  return record_.in_values[i] ? record_.in_values[i]->materialised().view() : TensorView{};
}

TensorView BackwardCall::out(size_t i) const {
  return record_.out_values[i] ? record_.out_values[i]->materialised().view() : TensorView{};
}

Parameter* BackwardCall::parameter(size_t i) const {
  return record_.in_nodes[i] ? record_.in_nodes[i]->parameter : nullptr;
}

TensorView BackwardCall::gradient(size_t output) const {
  const Tensor& gradient = record_.out_nodes[output]->gradient;
  return gradient ? gradient.view() : TensorView{};
}

bool BackwardCall::wants(size_t input) const {
  return record_.in_nodes[input] && record_.in_nodes[input]->requires_gradient;
}

void BackwardCall::make_exclusive(Tensor& gradient) {
  if (gradient.sole_owner()) return;
  Tensor copy = Tensor::empty(context_.allocator, gradient.dtype(), gradient.shape());
  kernels::copy(context_.exec, gradient, copy);
  gradient = std::move(copy);
}

Backward::Target BackwardCall::accumulate_into(Tensor existing, bool op_accumulates) {
  if (op_accumulates) return {existing.view(), kernels::Write::kAccumulate};
  Tensor temporary = Tensor::empty(context_.allocator, existing.dtype(), existing.shape());
  pending_.push_back({temporary, std::move(existing)});
  return {temporary.view(), kernels::Write::kOverwrite};
}

Backward::Target BackwardCall::target(size_t input) {
  Node& node = *record_.in_nodes[input];
  const bool op_accumulates = in_mask(record_.op->accumulates(), input);
  if (node.parameter != nullptr) {
    const Parameter::Target of = claim(node);
    if (!of.empty) return accumulate_into(of.gradient, op_accumulates);
    return {of.gradient.view(), kernels::Write::kOverwrite};
  }
  if (!node.gradient) {
    node.gradient = Tensor::empty(context_.allocator, node.dtype, node.shape);
    return {node.gradient.view(), kernels::Write::kOverwrite};
  }
  make_exclusive(node.gradient);
  return accumulate_into(node.gradient, op_accumulates);
}

TensorView BackwardCall::target_over_input(size_t input) {
  Node& node = *record_.in_nodes[input];
  const auto& value = record_.in_values[input];
  const bool free = may_overwrite_ && value && value.use_count() == 1 && value->materialised().sole_owner();
  if (free && !node.gradient && node.parameter == nullptr) {
    node.gradient = value->tensor;
    return node.gradient.view();
  }
  const Target target = this->target(input);
  if (target.write == kernels::Write::kOverwrite) return target.view;
  Tensor temporary = Tensor::empty(context_.allocator, node.dtype, node.shape);
  pending_.push_back({temporary, node.parameter ? claim(node).gradient : node.gradient});
  return temporary.view();
}

void BackwardCall::pass(size_t input, size_t output) { give(input, record_.out_nodes[output]->gradient); }

void BackwardCall::give(size_t input, Tensor gradient) {
  Node& node = *record_.in_nodes[input];
  gradient = gradient.reshape(node.shape);
  if (node.parameter != nullptr) {
    const Parameter::Target of = claim(node);
    if (of.empty) {
      kernels::copy(context_.exec, gradient, of.gradient);
    } else {
      kernels::accumulate(context_.exec, gradient, of.gradient);
    }
  } else if (!node.gradient) {
    node.gradient = std::move(gradient);
  } else {
    make_exclusive(node.gradient);
    kernels::accumulate(context_.exec, gradient, node.gradient);
  }
}

TensorView BackwardCall::writable_gradient(size_t output) {
  Node& node = *record_.out_nodes[output];
  if (node.gradient) {
    make_exclusive(node.gradient);
  } else {
    node.gradient = Tensor::empty(context_.allocator, node.dtype, node.shape);
  }
  return node.gradient.view();
}

void BackwardCall::finish() {
  for (const Pending& pending : pending_) kernels::accumulate(context_.exec, pending.temporary, pending.into);
  pending_.clear();
}

}  // namespace cadre::autograd
