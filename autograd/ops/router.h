#pragma once
// From logits to the experts of each token and their weights: scores, then a choice, which has no gradient, then gates.

#include "autograd/op.h"
#include "kernels/choice.h"

namespace cadre::autograd {

enum class ScoreKind { kSoftmax, kSigmoid };

// logits [tokens, experts], mask f64 [experts] or absent (-infinity: not there) -> scores [tokens, experts], lse
// [tokens], the log-sum-exp of the logits.
class RouterScores final : public Op {
 public:
  enum Output : size_t { kScores, kLse };
  explicit RouterScores(ScoreKind kind) : kind_(kind) {}
  const char* name() const override { return "router_scores"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override;
  void backward_inputs(Backward& b) const override;
  uint32_t differentiable_outputs() const override { return 0b11; }

 private:
  ScoreKind kind_;
};

// Two levels: group_logits [tokens, groups], logits [tokens, experts], mask f64 [experts] or absent -> scores [tokens,
// experts], the softmax over groups times that over the experts of a group, which are an equal run; lse [tokens, 1 +
// groups], the log-sum-exp of each softmax.
class TwoLevelScores final : public Op {
 public:
  enum Output : size_t { kScores, kLse };
  const char* name() const override { return "two_level_scores"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b111}; }
  void backward_inputs(Backward& b) const override;
  uint32_t differentiable_outputs() const override { return 0b11; }
};

// keys [experts, n], a parameter -> the same with rows of length 1 (Chi et al., "On the representation collapse of
// sparse mixture of experts", 2022).
class UnitRows final : public Op {
 public:
  const char* name() const override { return "unit_rows"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b1}; }
  void backward_inputs(Backward&) const override {}
  void backward_parameters(Backward& b) const override;
  uint32_t parameter_inputs() const override { return 0b1; }
};

// scores [tokens, experts], bias f64 [experts] or absent, added for this choice alone (Wang et al.,
// "Auxiliary-loss-free load balancing", 2024), recorded ids i32 [tokens, k] to take instead, or absent -> ids i32
// [tokens, k].
class ChooseExperts final : public Op {
 public:
  ChooseExperts(int64_t top_k, kernels::Choice choice) : top_k_(top_k), choice_(choice) {}
  const char* name() const override { return "choose_experts"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {}; }
  void backward_inputs(Backward&) const override {}
  uint32_t differentiable_outputs() const override { return 0; }

 private:
  int64_t top_k_;
  kernels::Choice choice_;
};

// scores [tokens, experts], ids i32 [tokens, k] -> weights [tokens, k].
class GateWeights final : public Op {
 public:
  GateWeights(bool renormalise, double scale) : renormalise_(renormalise), scale_(scale) {}
  const char* name() const override { return "gate_weights"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b11}; }
  void backward_inputs(Backward& b) const override;
  uint32_t accumulates() const override { return 0b1; }

 private:
  bool renormalise_;
  double scale_;
};

// weights [tokens, k], ids i32 [tokens, k] -> [tokens, experts], the weights where their experts are, else 0.
class SpreadWeights final : public Op {
 public:
  explicit SpreadWeights(int64_t experts) : experts_(experts) {}
  const char* name() const override { return "spread_weights"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b10}; }
  void backward_inputs(Backward& b) const override;

 private:
  int64_t experts_;
};

}  // namespace cadre::autograd
