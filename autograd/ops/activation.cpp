#include "autograd/ops/activation.h"

namespace cadre::autograd {
namespace {

// Offset `i`, as a one-element view.
TensorView row_at(TensorView offsets, int64_t i) { return offsets.columns(i, i + 1); }

kernels::RowRange all_rows(TensorView offsets) {
  if (!offsets) return {};
  return {{}, row_at(offsets, offsets.cols() - 1)};
}

// visit(stack, its rows) in order of groups.
template <class F>
void for_each_stack(const std::vector<ActivationStack>& stacks, TensorView offsets, F&& visit) {
  int64_t first = 0;
  for (const ActivationStack& stack : stacks) {
    visit(stack, kernels::RowRange{row_at(offsets, first), row_at(offsets, first + stack.groups)});
    first += stack.groups;
  }
}

}  // namespace

std::vector<TensorSpec> ExpertActivation::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 2 && in[0].shape.rank() == 2, in, "h [rows, cols], offsets or none");
  if (!stacks_.empty()) return infer_stacks(in);
  require(kind_ != kernels::Activation::kSwiGlu || in[0].shape[1] % 2 == 0, in, "h [rows, 2 f]");
  const int64_t f = kind_ == kernels::Activation::kSwiGlu ? in[0].shape[1] / 2 : in[0].shape[1];
  return {{in[0].dtype, Shape{in[0].shape[0], f}}};
}

std::vector<TensorSpec> ExpertActivation::infer_stacks(std::span<const TensorSpec> in) const {
  int64_t groups = 0, hidden = 0, ffn = 0;
  for (const ActivationStack& stack : stacks_) {
    groups += stack.groups;
    hidden = std::max(hidden, stack.hidden());
    ffn = std::max(ffn, stack.ffn);
  }
  require(in[0].shape[1] == hidden, in, "h [rows, columns of the widest stack]");
  require(in[1].shape == Shape{groups + 1}, in, "offsets [groups of all stacks + 1]");
  return {{in[0].dtype, Shape{in[0].shape[0], ffn}}};
}

void ExpertActivation::forward(const Forward& f) const {
  std::vector<kernels::ActivationPart> parts;
  if (stacks_.empty()) parts.push_back({kind_, all_rows(f.in[1]), f.in[0], f.out[0]});
  for_each_stack(stacks_, f.in[1], [&](const ActivationStack& stack, const kernels::RowRange& rows) {
    parts.push_back({stack.kind, rows, f.in[0].columns(0, stack.hidden()), f.out[0].columns(0, stack.ffn)});
  });
  kernels::activation_forward(f.context.exec, parts);
}

void ExpertActivation::backward_inputs(Backward& b) const {
  const TensorView h = b.in(0), offsets = b.in(1), dout = b.gradient(0), dh = b.target_over_input(0);
  std::vector<kernels::ActivationGradientPart> parts;
  if (stacks_.empty()) parts.push_back({kind_, all_rows(offsets), h, dout, dh});
  for_each_stack(stacks_, offsets, [&](const ActivationStack& stack, const kernels::RowRange& rows) {
    const int64_t hidden = stack.hidden();
    parts.push_back({stack.kind, rows, h.columns(0, hidden), dout.columns(0, stack.ffn), dh.columns(0, hidden)});
  });
  kernels::activation_backward(b.context().exec, parts);
}

// With several stacks, rows are taken to be spread evenly over groups.
Cost ExpertActivation::cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const {
  Cost cost = Op::cost(in, out);
  if (stacks_.empty()) return cost;
  double groups = 0, passed = 0;  // elements of a group's rows of h and the result
  for (const ActivationStack& stack : stacks_) {
    groups += static_cast<double>(stack.groups);
    passed += static_cast<double>(stack.groups * (stack.hidden() + stack.ffn));
  }
  const auto whole = static_cast<double>(in[0].shape[1] + out[0].shape[1]);
  cost.bytes -=
      static_cast<double>(in[0].shape[0]) * (whole - passed / groups) * static_cast<double>(size_of(in[0].dtype));
  return cost;
}

}  // namespace cadre::autograd
