#pragma once
// Fused expert activation.

#include "autograd/op.h"
#include "kernels/activation.h"

namespace cadre::autograd {

// Groups that follow each other and have one kind and width.
struct ActivationStack {
  kernels::Activation kind;
  int64_t groups;
  int64_t ffn;
  int64_t hidden() const { return kernels::hidden_columns(kind, ffn); }
};

// h [rows, 2 f] (kSwiGlu) or [rows, f] (kGelu), offsets i64 [groups + 1] or absent -> [rows, f]. Rows at or past the
// last offset are skipped.
//
// Groups of different kinds and widths: stacks in order of groups; h and the result have the columns of the widest.
// Rows of narrower stacks use the first columns; the others, of the result and of h's gradient, hold garbage.
class ExpertActivation final : public Op {
 public:
  explicit ExpertActivation(kernels::Activation kind) : kind_(kind) {}
  explicit ExpertActivation(std::vector<ActivationStack> stacks) : stacks_(std::move(stacks)) {}
  const char* name() const override { return "expert_activation"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b11}; }
  void backward_inputs(Backward& b) const override;
  Cost cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const override;

 private:
  std::vector<TensorSpec> infer_stacks(std::span<const TensorSpec> in) const;

  kernels::Activation kind_ = kernels::Activation::kSwiGlu;
  std::vector<ActivationStack> stacks_;  // none: all groups are of kind_
};

}  // namespace cadre::autograd
