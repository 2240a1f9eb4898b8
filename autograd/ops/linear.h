#pragma once
// Matrix products with weights, plain or one matrix for each group of rows (experts).

#include "autograd/op.h"

namespace cadre::autograd {

// x [rows, in], weight [out, in] or [groups, out, in], offsets i64 [groups + 1] (absent with one group)
// -> y [rows, out] = x W_group^T. Rows before offsets[0], and at or past offsets[groups], hold garbage. `lanes` more
// than 1: a fourth input, offsets of the rows of each group and lane i64 [groups * lanes + 1], for a weight whose
// gradient has lanes.
//
// Groups of different sizes: `stacks` weights [groups_i, out_i, in_i], one after the other in order of groups; the
// first is input 1, the others follow the fourth input (absent with one lane). x has the columns of the widest in_i, y
// those of the widest out_i. Rows of narrower stacks use the first columns; the others, of y and of x's gradient, hold
// garbage: an op that reads them must not share x.
class GroupedLinear final : public Op {
 public:
  explicit GroupedLinear(int lanes = 1, size_t stacks = 1) : lanes_(lanes), stacks_(stacks) {}
  const char* name() const override { return "grouped_linear"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = ~0u}; }
  void backward_inputs(Backward& b) const override;
  void backward_parameters(Backward& b) const override;
  uint32_t parameter_inputs() const override { return ~0b1101u; }
  uint32_t accumulates() const override { return ~0u; }
  Cost cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const override;

 private:
  static size_t weight_input(size_t stack) { return stack == 0 ? 1 : 3 + stack; }

  int lanes_;
  size_t stacks_;
};

}  // namespace cadre::autograd
