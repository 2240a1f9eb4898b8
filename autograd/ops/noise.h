#pragma once
// Chance in a router, in training only. Draws belong to tokens (kernels/noise.h), so recompute repeats them.

#include "autograd/op.h"
#include "kernels/noise.h"

namespace cadre::autograd {

// x [tokens, h] -> x * u, u uniform in [1 - epsilon, 1 + epsilon) (Fedus et al., "Switch Transformers", 2022).
class Jitter final : public Op {
 public:
  Jitter(double epsilon, kernels::RowDraws draws) : epsilon_(epsilon), draws_(draws) {}
  const char* name() const override { return "jitter"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {}; }
  void backward_inputs(Backward& b) const override;

 private:
  double epsilon_;
  kernels::RowDraws draws_;
};

// logits, spread [tokens, experts] -> logits + z * softplus(spread), z standard normal (Shazeer et al.,
// "Outrageously large neural networks", 2017, eq. 4).
class AddNoise final : public Op {
 public:
  explicit AddNoise(kernels::RowDraws draws) : draws_(draws) {}
  const char* name() const override { return "add_noise"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b10}; }
  void backward_inputs(Backward& b) const override;

 private:
  kernels::RowDraws draws_;
};

// logits, spread, noisy [tokens, experts], what AddNoise makes of those -> the probability that an expert is among the
// top k of its token when its own noise is drawn anew (likewise, eq. 8 and 9). k < experts. Sums over tokens are the
// smooth load.
class NoisyLoad final : public Op {
 public:
  explicit NoisyLoad(int64_t top_k) : top_k_(top_k) {}
  const char* name() const override { return "noisy_load"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b111}; }
  void backward_inputs(Backward& b) const override;

 private:
  int64_t top_k_;
};

}  // namespace cadre::autograd
