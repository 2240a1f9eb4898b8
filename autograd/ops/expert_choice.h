#pragma once
// Experts choose tokens.

#include "autograd/op.h"

namespace cadre::autograd {

// scores [tokens, experts], bias f64 [experts] or absent, added for this choice alone, thresholds f64 [experts] or
// absent, recorded ids i32 [tokens, experts] to take instead, or absent -> ids i32 [tokens, experts], e where expert e
// has the token, else -1; lowest f64 [experts], the lowest key that an expert took, infinity where it has no token.
// Without thresholds each expert takes ceil(tokens * top_k / experts) tokens, else those at or above its own.
class ExpertChoice final : public Op {
 public:
  enum Output : size_t { kIds, kLowest };
  explicit ExpertChoice(int64_t top_k) : top_k_(top_k) {}
  const char* name() const override { return "expert_choice"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {}; }
  void backward_inputs(Backward&) const override {}
  uint32_t differentiable_outputs() const override { return 0; }

  // Tokens of each expert.
  static int64_t share(int64_t tokens, int64_t top_k, int64_t experts) {
    return (tokens * top_k + experts - 1) / experts;
  }

 private:
  int64_t top_k_;
};

}  // namespace cadre::autograd
