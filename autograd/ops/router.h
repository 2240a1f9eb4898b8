#pragma once
// Softmax top-k router with its auxiliary losses.

#include "autograd/op.h"

namespace cadre::autograd {

struct RouterOptions {
  int64_t top_k = 2;
  bool renormalise = true;
  // Switch/GShard balance loss: coef * experts * sum_e f_e P_e per scope, f the scope's fraction of choices, P its mean
  // probability; a scope counts with its tokens / global_tokens. 0 scopes: none.
  int64_t scopes =
      1;  // equal parts of the tokens (sequences), or 1 (micro-batch, or global batch with given fractions)
  double balance_coef = 0;
  double z_coef = 0;  // coef * mean over global tokens of lse^2
  double global_tokens = 1;
};

// logits [tokens, experts], replay i32 [tokens, k] or absent, fractions f64 [experts] or absent (the previous step's
// global fractions, used in place of f)
// -> weights [tokens, k], balance loss f64 [1], z loss f64 [1] (this micro-batch's contributions), and without
// gradient: ids i32 [tokens, k], probs [tokens, experts], lse [tokens], counts i64 [scopes, experts], prob_sums
// [scopes, experts].
class Router final : public Op {
 public:
  enum Output : size_t { kWeights, kBalanceLoss, kZLoss, kIds, kProbs, kLse, kCounts, kProbSums };

  explicit Router(RouterOptions options) : options_(options) {}
  const char* name() const override { return "router"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b100, .outputs = 0b01111001}; }
  void backward_inputs(Backward& b) const override;
  uint32_t differentiable_outputs() const override { return 0b111; }

 private:
  // d(balance loss)/d(prob) for each scope and expert, f64 -> dtype of `out`.
  void balance_coefficients(TensorView counts, TensorView fractions, double factor, TensorView out) const;
  RouterOptions options_;
};

}  // namespace cadre::autograd
