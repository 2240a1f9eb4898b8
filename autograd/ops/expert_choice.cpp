#include "autograd/ops/expert_choice.h"

#include "kernels/elementwise.h"
#include "kernels/expert_choice.h"

namespace cadre::autograd {
namespace {

enum Input : size_t { kScores, kBias, kThresholds, kGiven };

}  // namespace

std::vector<TensorSpec> ExpertChoice::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 4 && in[kScores].shape.rank() == 2, in,
          "scores [tokens, experts], bias, thresholds and ids or none");
  const Shape shape = in[kScores].shape, experts{shape[1]};
  require(in[kBias].shape.rank() == 0 || in[kBias].shape == experts, in, "bias [experts]");
  require(in[kThresholds].shape.rank() == 0 || in[kThresholds].shape == experts, in, "thresholds [experts]");
  require(in[kGiven].shape.rank() == 0 || in[kGiven].shape == shape, in, "ids [tokens, experts]");
  return {{Dtype::kI32, shape}, {Dtype::kF64, experts}};
}

void ExpertChoice::forward(const Forward& f) const {
  const kernels::Exec& exec = f.context.exec;
  const TensorView scores = f.in[kScores], bias = f.in[kBias], ids = f.out[kIds];
  if (f.in[kGiven]) {
    kernels::copy(exec, f.in[kGiven], ids);
  } else if (f.in[kThresholds]) {
    kernels::choose_tokens_above(exec, scores, bias, f.in[kThresholds], ids);
  } else {
    kernels::choose_tokens(exec, scores, bias, share(scores.rows(), top_k_, scores.cols()), ids);
  }
  kernels::lowest_keys(exec, scores, bias, ids, f.out[kLowest]);
}

}  // namespace cadre::autograd
