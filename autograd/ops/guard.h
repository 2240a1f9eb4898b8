#pragma once
// Around the experts of a layer: what goes in and comes out passes through these, so that one expert can be cut off
// from the gradients of others, have a loss scale of its own, and spoil nothing when it is not finite.

#include <cstdint>
#include <memory>
#include <vector>

#include "autograd/op.h"

namespace cadre::autograd {

// Of one layer and micro-batch, by expert: rows of gradients that were not finite, counted in the backward.
using RowFaults = std::vector<int64_t>;

// rows [n, h] in expert order, offsets i64 [experts + 1], factors f64 [experts], guarded i32 [experts] -> the same
// rows, in place. Backward: rows of guarded experts that are not finite become 0 and are counted, the others are
// multiplied by their expert's factor (0: cut off).
class GuardInputs final : public Op {
 public:
  // `faults` [experts] may be null.
  explicit GuardInputs(std::shared_ptr<RowFaults> faults) : faults_(std::move(faults)) {}
  const char* name() const override { return "guard_inputs"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward&) const override {}
  int shares(size_t) const override { return 0; }
  Needs needs() const override { return {.inputs = 0b1110}; }
  void backward_inputs(Backward& b) const override;

 private:
  std::shared_ptr<RowFaults> faults_;
};

// rows [n, h], offsets i64 [experts + 1], factors f64 [experts], guarded i32 [experts] -> the same rows, in place,
// those of guarded experts that were not finite 0, counts i64 [experts] of them, flags i32 [n]. Backward: rows are
// multiplied by their expert's factor, flagged ones become 0.
class GuardOutputs final : public Op {
 public:
  enum Output : size_t { kRows, kCounts, kFlags };
  const char* name() const override { return "guard_outputs"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  int shares(size_t output) const override { return output == kRows ? 0 : -1; }
  Needs needs() const override { return {.inputs = 0b1110, .outputs = 0b100}; }
  void backward_inputs(Backward& b) const override;
};

// weights [tokens, k], ids i32 [tokens, k], factors f64 [experts], guarded i32 [experts] -> the same weights, in place.
// Backward: gradients of guarded experts that are not finite become 0 and are counted, the others are multiplied by
// their expert's factor.
class GuardGates final : public Op {
 public:
  explicit GuardGates(std::shared_ptr<RowFaults> faults) : faults_(std::move(faults)) {}
  const char* name() const override { return "guard_gates"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward&) const override {}
  int shares(size_t) const override { return 0; }
  Needs needs() const override { return {.inputs = 0b1110}; }
  void backward_inputs(Backward& b) const override;

 private:
  std::shared_ptr<RowFaults> faults_;
};

}  // namespace cadre::autograd
