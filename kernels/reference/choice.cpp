#include "kernels/reference/choice.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "kernels/reference/elementwise.h"

namespace cadre::reference {
namespace {

using kernels::Choice;
using kernels::ChoiceKind;
using kernels::GroupScore;

std::vector<int32_t> descending(const std::vector<double>& keys) {
  std::vector<int32_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  const auto key = [&](int32_t i) { return keys[static_cast<size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key(a) > key(b); });
  return order;
}

// -infinity for experts whose group is not among the best.
void limit_groups(std::vector<double>& keys, const Choice& choice) {
  const size_t size = keys.size() / static_cast<size_t>(choice.groups);
  std::vector<double> scores;
  for (auto begin = keys.begin(); begin != keys.end(); begin += static_cast<ptrdiff_t>(size)) {
    std::vector<double> group(begin, begin + static_cast<ptrdiff_t>(size));
    std::sort(group.begin(), group.end(), std::greater<>());
    const bool two = choice.group_score == GroupScore::kTopTwo && size > 1;
    scores.push_back(two ? group[0] + group[1] : group[0]);
  }
  const std::vector<int32_t> order = descending(scores);
  for (size_t i = static_cast<size_t>(choice.kept_groups); i < order.size(); ++i) {
    std::fill_n(keys.begin() + order[i] * static_cast<ptrdiff_t>(size), size, -INFINITY);
  }
}

std::vector<double> keys_of(TensorView probs, TensorView bias, const Choice& choice, int64_t token) {
  std::vector<double> keys(row(probs, token), row(probs, token) + probs.cols());
  for (int64_t e = 0; e < probs.cols(); ++e) {
    double& key = keys[static_cast<size_t>(e)];
    if (bias) key += bias.as<double>()[e];
    if (std::isnan(key)) key = -INFINITY;
  }
  if (choice.groups > 1) limit_groups(keys, choice);
  return keys;
}

}  // namespace

void choose_experts(TensorView probs, TensorView bias, const Choice& choice, TensorView ids) {
  const int64_t k = ids.cols();
  for (int64_t t = 0; t < probs.rows(); ++t) {
    const std::vector<int32_t> order = descending(keys_of(probs, bias, choice, t));
    int32_t* chosen = ids.as<int32_t>() + t * k;
    std::copy_n(order.begin(), k, chosen);
    if (choice.kind != ChoiceKind::kTopP) continue;
    const double* p = row(probs, t);
    const double wanted = choice.top_p * std::accumulate(p, p + probs.cols(), 0.0);
    double together = 0;
    for (int64_t j = 0; j < k; ++j) {
      const bool enough = j > 0 && !(together < wanted);
      together += p[chosen[j]];
      if (enough) chosen[j] = -1;
    }
  }
}

void gate_weights(TensorView probs, TensorView ids, bool renormalise, double scale, TensorView weights) {
  const int64_t k = ids.cols();
  for (int64_t t = 0; t < ids.rows(); ++t) {
    const int32_t* chosen = ids.as<int32_t>() + t * k;
    double* w = weights.as<double>() + t * k;
    double total = 0;
    for (int64_t j = 0; j < k; ++j) total += w[j] = chosen[j] < 0 ? 0 : row(probs, t)[chosen[j]];
    // Divided first: the one expert of a token has exactly the weight `scale`.
    for (int64_t j = 0; j < k; ++j) w[j] = scale * (!renormalise ? w[j] : total == 0 ? 0 : w[j] / total);
  }
}

// With w_j = p_j / S, S the sum of the chosen p: d/dp_j = (dw_j - sum_i w_i dw_i) / S.
void gate_weights_backward(TensorView probs, TensorView ids, bool renormalise, double scale, TensorView dweights,
                           TensorView dprobs, bool accumulate) {
  const int64_t k = ids.cols();
  for (int64_t t = 0; t < ids.rows(); ++t) {
    const int32_t* chosen = ids.as<int32_t>() + t * k;
    const double* p = row(probs, t);
    const double* dw = dweights.as<double>() + t * k;
    if (!accumulate) std::fill_n(row(dprobs, t), probs.cols(), 0.0);
    double total = 0, weighted = 0;
    for (int64_t j = 0; j < k; ++j) {
      if (chosen[j] < 0) continue;
      total += p[chosen[j]];
      weighted += p[chosen[j]] * dw[j];
    }
    if (renormalise && total == 0) continue;
    for (int64_t j = 0; j < k; ++j) {
      if (chosen[j] < 0) continue;
      row(dprobs, t)[chosen[j]] += scale * (renormalise ? (dw[j] - weighted / total) / total : dw[j]);
    }
  }
}

}  // namespace cadre::reference
