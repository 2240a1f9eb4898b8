#pragma once
// What experts without matrix products add to their tokens.

#include <utility>

#include "autograd/op.h"
#include "kernels/simple_experts.h"

namespace cadre::autograd {

// x [tokens, h], ids i32 [tokens, k], weights [tokens, k], base [tokens, h] or absent, constants [n, 3, h], a
// parameter, or absent, and or absent factors f64 [experts] of the gradients that reach an expert's output, and that
// leave it for x -> base + sum over the places of such experts of weight * output [tokens, h].
class SimpleExperts final : public Op {
 public:
  explicit SimpleExperts(kernels::SimpleExperts experts) : experts_(std::move(experts)) {}
  const char* name() const override { return "simple_experts"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b1110111}; }
  void backward_inputs(Backward& b) const override;
  void backward_parameters(Backward& b) const override;
  uint32_t parameter_inputs() const override { return 0b10000; }
  uint32_t accumulates() const override { return 0b10001; }

 private:
  kernels::SimpleExperts experts_;
};

}  // namespace cadre::autograd
