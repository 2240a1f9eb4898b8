#pragma once
// The training loss.

#include "autograd/op.h"

namespace cadre::autograd {

// logits [tokens, vocabulary], targets i32 [tokens] (negative: ignored)
// -> loss f64 [1] = weight * sum of token losses in nats, losses [tokens], lse [tokens]. `weight` is usually one over
// the target tokens of the global batch, so that every reduction over ranks is a sum.
class CrossEntropy final : public Op {
 public:
  explicit CrossEntropy(double weight) : weight_(weight) {}
  const char* name() const override { return "cross_entropy"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b11, .outputs = 0b100}; }
  void backward_inputs(Backward& b) const override;

 private:
  double weight_;
};

}  // namespace cadre::autograd
