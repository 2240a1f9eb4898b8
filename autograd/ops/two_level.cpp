#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/ops/elements.h"
#include "autograd/ops/router.h"

namespace cadre::autograd {
namespace {

constexpr double kAbsent = -std::numeric_limits<double>::infinity();

// In place; returns the log-sum-exp. All absent: all 0, and 0.
double softmax(double* x, int64_t count) {
  const double largest = *std::max_element(x, x + count);
  if (largest == kAbsent) {
    std::fill_n(x, count, 0.0);
    return 0;
  }
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += x[i] = std::exp(x[i] - largest);
  for (int64_t i = 0; i < count; ++i) x[i] /= total;
  return largest + std::log(total);
}

// One token's softmaxes.
struct Levels {
  std::vector<double> groups, experts, lse;
  int64_t size;  // of a group
};

Levels levels_of(TensorView group_logits, TensorView logits, TensorView mask, int64_t token) {
  const int64_t groups = group_logits.cols(), experts = logits.cols(), size = experts / groups;
  Levels levels{{}, {}, std::vector<double>(static_cast<size_t>(groups + 1)), size};
  for (int64_t e = 0; e < experts; ++e) {
    const bool absent = mask && mask.as<double>()[e] == kAbsent;
    levels.experts.push_back(absent ? kAbsent : read_element(logits, token, e));
  }
  for (int64_t g = 0; g < groups; ++g) {
    double* const of_group = levels.experts.data() + g * size;
    const bool absent = *std::max_element(of_group, of_group + size) == kAbsent;
    levels.groups.push_back(absent ? kAbsent : read_element(group_logits, token, g));
    levels.lse[static_cast<size_t>(g + 1)] = softmax(of_group, size);
  }
  levels.lse[0] = softmax(levels.groups.data(), groups);
  return levels;
}

// dx = p (dp - <p, dp> + dlse).
void softmax_backward(const double* p, double* dp, int64_t count, double dlse) {
  double mean = 0;
  for (int64_t i = 0; i < count; ++i) mean += p[i] * dp[i];
  for (int64_t i = 0; i < count; ++i) dp[i] = p[i] * (dp[i] - mean + dlse);
}

}  // namespace

std::vector<TensorSpec> TwoLevelScores::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 3 && in[0].shape.rank() == 2 && in[1].shape.rank() == 2 && in[0].shape[0] == in[1].shape[0], in,
          "group_logits [tokens, groups], logits [tokens, experts], mask or none");
  const int64_t tokens = in[0].shape[0], groups = in[0].shape[1], experts = in[1].shape[1];
  require(groups >= 1 && experts % groups == 0, in, "groups that divide the experts");
  require(in[2].shape.rank() == 0 || in[2].shape == Shape{experts}, in, "mask [experts]");
  return {in[1], {in[1].dtype, Shape{tokens, groups + 1}}};
}

void TwoLevelScores::forward(const Forward& f) const {
  if (f.context.exec.dry) return;
  for (int64_t t = 0; t < f.in[0].rows(); ++t) {
    const Levels levels = levels_of(f.in[0], f.in[1], f.in[2], t);
    for (int64_t e = 0; e < f.in[1].cols(); ++e) {
      const auto at = static_cast<size_t>(e);
      write_element(f.out[kScores], t, e, levels.groups[at / static_cast<size_t>(levels.size)] * levels.experts[at]);
    }
    for (size_t i = 0; i < levels.lse.size(); ++i)
      write_element(f.out[kLse], t, static_cast<int64_t>(i), levels.lse[i]);
  }
}

void TwoLevelScores::backward_inputs(Backward& b) const {
  const TensorView dgroups = b.target(0).view, dlogits = b.target(1).view;
  const TensorView group_logits = b.in(0), logits = b.in(1), mask = b.in(2);
  const TensorView dscores = b.gradient(kScores), dlse = b.gradient(kLse);
  if (b.context().exec.dry) return;
  const int64_t groups = group_logits.cols();
  for (int64_t t = 0; t < logits.rows(); ++t) {
    const Levels levels = levels_of(group_logits, logits, mask, t);
    const auto of_lse = [&](int64_t i) { return dlse ? read_element(dlse, t, i) : 0; };
    std::vector<double> of_groups(static_cast<size_t>(groups), 0.0), of_experts(levels.experts.size(), 0.0);
    for (int64_t g = 0; g < groups; ++g) {
      const auto group = static_cast<size_t>(g);
      const int64_t first = g * levels.size;
      for (int64_t e = first; e < first + levels.size; ++e) {
        const double gradient = dscores ? read_element(dscores, t, e) : 0;
        of_groups[group] += gradient * levels.experts[static_cast<size_t>(e)];
        of_experts[static_cast<size_t>(e)] = gradient * levels.groups[group];
      }
      softmax_backward(levels.experts.data() + first, of_experts.data() + first, levels.size, of_lse(g + 1));
    }
    softmax_backward(levels.groups.data(), of_groups.data(), groups, of_lse(0));
    for (int64_t g = 0; g < groups; ++g) write_element(dgroups, t, g, of_groups[static_cast<size_t>(g)]);
    for (int64_t e = 0; e < logits.cols(); ++e) write_element(dlogits, t, e, of_experts[static_cast<size_t>(e)]);
  }
}

}  // namespace cadre::autograd
