#pragma once
// Token embedding.

#include "autograd/op.h"

namespace cadre::autograd {

// ids i32 [tokens], table [vocabulary, h] -> out [tokens, h].
class Embedding final : public Op {
 public:
  const char* name() const override { return "embedding"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b01}; }
  void backward_inputs(Backward&) const override {}
  void backward_parameters(Backward& b) const override;
  uint32_t parameter_inputs() const override { return 0b10; }
  uint32_t accumulates() const override { return 0b10; }
};

}  // namespace cadre::autograd
