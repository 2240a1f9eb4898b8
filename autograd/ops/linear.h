#pragma once
// Matrix products with weights, plain or one matrix for each group of rows (experts).

#include "autograd/op.h"

namespace cadre::autograd {

// x [rows, in], weight [out, in] or [groups, out, in], offsets i64 [groups + 1] (absent with one group)
// -> y [rows, out] = x W_group^T. Rows at or past offsets[groups] hold garbage. `lanes` more than 1: a fourth input,
// offsets of the rows of each group and lane i64 [groups * lanes + 1], for a weight whose gradient has lanes.
class GroupedLinear final : public Op {
 public:
  explicit GroupedLinear(int lanes = 1) : lanes_(lanes) {}
  const char* name() const override { return "grouped_linear"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b1111}; }
  void backward_inputs(Backward& b) const override;
  void backward_parameters(Backward& b) const override;
  uint32_t parameter_inputs() const override { return 0b010; }
  uint32_t accumulates() const override { return 0b011; }
  Cost cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const override;

 private:
  int lanes_;
};

}  // namespace cadre::autograd
