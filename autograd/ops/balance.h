#pragma once
// Auxiliary losses of a router. Each gives this micro-batch's contribution to the loss of the global batch, f64 [1]:
// a scope, one of equal runs of tokens, counts with its tokens / global_tokens.

#include "autograd/op.h"

namespace cadre::autograd {

// values [tokens, experts] -> sums [scopes, experts] over each scope's tokens, in their order.
class ScopeSums final : public Op {
 public:
  explicit ScopeSums(int64_t scopes) : scopes_(scopes) {}
  const char* name() const override { return "scope_sums"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {}; }
  void backward_inputs(Backward& b) const override;
  uint32_t accumulates() const override { return 0b1; }

 private:
  int64_t scopes_;
};

// ids i32 [tokens, k], -1 for none -> counts i64 [scopes, experts]. No gradient.
class ChoiceCounts final : public Op {
 public:
  ChoiceCounts(int64_t scopes, int64_t experts) : scopes_(scopes), experts_(experts) {}
  const char* name() const override { return "choice_counts"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {}; }
  void backward_inputs(Backward&) const override {}
  uint32_t differentiable_outputs() const override { return 0; }

 private:
  int64_t scopes_, experts_;
};

struct LossWeight {
  double coef = 0;
  double global_tokens = 1;
};

// coef * experts * sum_e f_e P_e per scope: f the scope's fraction of choices, P its mean score (Fedus et al., "Switch
// Transformers", 2022, eq. 4). sums [scopes, experts] of scores, counts i64 [scopes, experts], fractions f64 [experts]
// or absent, which are then used as f in the one scope.
class SwitchLoss final : public Op {
 public:
  explicit SwitchLoss(LossWeight weight) : weight_(weight) {}
  const char* name() const override { return "switch_loss"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b110}; }
  void backward_inputs(Backward& b) const override;

 private:
  LossWeight weight_;
};

enum class LoadMeasure {
  kVariation,  // mean of (r - 1)^2: the squared coefficient of variation (Shazeer et al., 2017, eq. 6-11)
  kHinge,      // sum of relu(r - 1.5) + relu(0.5 - r)
};

// A measure of the loads r_e = experts * S_e / sum of S, for each scope's row S of sums [scopes, experts], and one
// count of `scope_tokens`. `before`, f64 [experts] or absent: the global batch's sums of the step before; the measure
// is then linearised there, so that contributions of micro-batches add up whatever the layout.
class LoadLoss final : public Op {
 public:
  LoadLoss(LoadMeasure measure, double scope_tokens, LossWeight weight)
      : measure_(measure), scope_tokens_(scope_tokens), weight_(weight) {}
  const char* name() const override { return "load_loss"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b11}; }
  void backward_inputs(Backward& b) const override;

 private:
  LoadMeasure measure_;
  double scope_tokens_;
  LossWeight weight_;
};

// lse [tokens] or [tokens, n] -> coef * mean over global tokens of the sum of lse^2 (Zoph et al., "ST-MoE", 2022, eq.
// 5).
class ZLoss final : public Op {
 public:
  explicit ZLoss(LossWeight weight) : weight_(weight) {}
  const char* name() const override { return "z_loss"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b1}; }
  void backward_inputs(Backward& b) const override;

 private:
  LossWeight weight_;
};

// scores [tokens, experts] -> coef * mean over global tokens of the entropy of scores / their sum, in nats.
class EntropyLoss final : public Op {
 public:
  explicit EntropyLoss(LossWeight weight) : weight_(weight) {}
  const char* name() const override { return "entropy_loss"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b1}; }
  void backward_inputs(Backward& b) const override;

 private:
  LossWeight weight_;
};

// scores [tokens, experts] -> scores / their sum: what stands for a softmax where scores are independent (DeepSeek-V3,
// 2024, eq. 19).
class RowShares final : public Op {
 public:
  const char* name() const override { return "row_shares"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b1}; }
  void backward_inputs(Backward& b) const override;
};

}  // namespace cadre::autograd
