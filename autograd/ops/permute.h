#pragma once
// Tokens to experts and back.

#include "autograd/op.h"
#include "kernels/permute.h"

namespace cadre::autograd {

// ids i32 [tokens, k], weights [tokens, k] -> offsets i64 [experts + 1], row_of_slot i32 [tokens * k], slot_of_row
// i32 [rows]. No gradient. capacity -1: dropless. rows -1: tokens * k.
class PlanRows final : public Op {
 public:
  PlanRows(int64_t experts, int64_t capacity, kernels::DropPolicy policy, kernels::PlanWhole whole = {},
           int64_t rows = -1)
      : experts_(experts), capacity_(capacity), policy_(policy), whole_(whole), rows_(rows) {}
  const char* name() const override { return "plan_rows"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {}; }
  void backward_inputs(Backward&) const override {}
  uint32_t differentiable_outputs() const override { return 0; }

 private:
  int64_t experts_;
  int64_t capacity_;
  kernels::DropPolicy policy_;
  kernels::PlanWhole whole_;
  int64_t rows_;
};

// x [tokens, h], slot_of_row i32 [n], row_of_slot i32 [tokens * k], offsets i64 [experts + 1] -> rows [n, h] in expert
// order.
class GatherRows final : public Op {
 public:
  const char* name() const override { return "gather_rows"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b0100}; }
  void backward_inputs(Backward& b) const override;
  uint32_t accumulates() const override { return 0b0001; }
};

// x [n, h], order and its inverse i32 [m], a permutation of the first m rows -> out [m, h], out[i] = x[order[i]].
class PermuteRows final : public Op {
 public:
  const char* name() const override { return "permute_rows"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b100}; }
  void backward_inputs(Backward& b) const override;
};

// y [n, h], row_of_slot i32 [tokens * k], weights [tokens, k], base [tokens, h] or absent
// -> out [tokens, h] = base + sum over k of weight * y[row].
class CombineRows final : public Op {
 public:
  const char* name() const override { return "combine_rows"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b0111}; }
  void backward_inputs(Backward& b) const override;
};

}  // namespace cadre::autograd
