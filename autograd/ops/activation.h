#pragma once
// Fused expert activation.

#include "autograd/op.h"
#include "kernels/activation.h"

namespace cadre::autograd {

// h [rows, 2 f] (kSwiGlu) or [rows, f] (kGelu), offsets i64 [groups + 1] or absent -> [rows, f]. Rows at or past the
// last offset are skipped.
class ExpertActivation final : public Op {
 public:
  explicit ExpertActivation(kernels::Activation kind) : kind_(kind) {}
  const char* name() const override { return "expert_activation"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b11}; }
  void backward_inputs(Backward& b) const override;

 private:
  kernels::Activation kind_;
};

}  // namespace cadre::autograd
