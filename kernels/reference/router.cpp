#include "kernels/reference/router.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/reference/elementwise.h"

namespace cadre::reference {
namespace {

// The k experts of highest probability, ties to the lower id.
void choose(const double* probs, int64_t experts, int64_t k, int32_t* ids) {
  std::vector<int32_t> order(static_cast<size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  const auto key = [&](int32_t id) { return std::isnan(probs[id]) ? -1.0 : probs[id]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key(a) > key(b); });
  std::copy_n(order.begin(), k, ids);
}

}  // namespace

void router_forward(TensorView logits, bool renormalise, TensorView replay, TensorView probs, TensorView lse,
                    TensorView ids, TensorView weights) {
  const int64_t experts = logits.cols();
  const int64_t k = ids.cols();
  for (int64_t t = 0; t < logits.rows(); ++t) {
    const double* x = row(logits, t);
    double* p = row(probs, t);
    const double largest = *std::max_element(x, x + experts);
    double total = 0;
    for (int64_t e = 0; e < experts; ++e) total += p[e] = std::exp(x[e] - largest);
    for (int64_t e = 0; e < experts; ++e) p[e] /= total;
    lse.as<double>()[t] = largest + std::log(total);

    int32_t* chosen = ids.as<int32_t>() + t * k;
    if (replay) {
      std::copy_n(replay.as<int32_t>() + t * k, k, chosen);
    } else {
      choose(p, experts, k, chosen);
    }
    double* w = weights.as<double>() + t * k;
    for (int64_t j = 0; j < k; ++j) w[j] = p[chosen[j]];
    const double chosen_total = renormalise ? std::accumulate(w, w + k, 0.0) : 1.0;
    for (int64_t j = 0; j < k; ++j) w[j] /= chosen_total;
  }
}

// With w_j = p_j / S, S the sum of the chosen p: d/dp_j = (dw_j - sum_i w_i dw_i) / S. Then the softmax:
// d/dx_e = p_e (g_e - sum_i p_i g_i), and for lse^2: d/dx_e = 2 lse p_e.
void router_backward(TensorView probs, TensorView lse, TensorView ids, bool renormalise, TensorView dweights,
                     TensorView balance, double z_scale, TensorView dlogits) {
  const int64_t tokens = probs.rows();
  const int64_t experts = probs.cols();
  const int64_t k = ids.cols();
  const int64_t scope_tokens = balance && tokens > 0 ? tokens / balance.rows() : 1;
  std::vector<double> g(static_cast<size_t>(experts));
  for (int64_t t = 0; t < tokens; ++t) {
    const double* p = row(probs, t);
    const int32_t* chosen = ids.as<int32_t>() + t * k;
    const double* dw = dweights.as<double>() + t * k;
    double chosen_total = 0;
    double weighted = 0;
    for (int64_t j = 0; j < k; ++j) {
      chosen_total += p[chosen[j]];
      weighted += p[chosen[j]] * dw[j];
    }
    std::fill(g.begin(), g.end(), 0.0);
    if (balance) std::copy_n(row(balance, t / scope_tokens), experts, g.begin());
    for (int64_t j = 0; j < k; ++j) {
      g[static_cast<size_t>(chosen[j])] += renormalise ? (dw[j] - weighted / chosen_total) / chosen_total : dw[j];
    }
    const double mean = std::inner_product(g.begin(), g.end(), p, 0.0);
    const double z = 2.0 * z_scale * lse.as<double>()[t];
    for (int64_t e = 0; e < experts; ++e) row(dlogits, t)[e] = p[e] * (g[static_cast<size_t>(e)] - mean + z);
  }
}

void router_statistics(TensorView probs, TensorView lse, TensorView ids, TensorView counts, TensorView prob_sums,
                       TensorView lse_squared) {
  const int64_t tokens = probs.rows();
  const int64_t experts = probs.cols();
  const int64_t k = ids.cols();
  const int64_t scope_tokens = tokens > 0 ? tokens / counts.rows() : 1;
  std::fill_n(counts.as<int64_t>(), counts.shape.elements(), 0);
  for (int64_t s = 0; s < prob_sums.rows(); ++s) std::fill_n(row(prob_sums, s), experts, 0.0);
  double squares = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t scope = t / scope_tokens;
    for (int64_t e = 0; e < experts; ++e) row(prob_sums, scope)[e] += row(probs, t)[e];
    for (int64_t j = 0; j < k; ++j) ++counts.as<int64_t>()[scope * experts + ids.as<int32_t>()[t * k + j]];
    squares += lse.as<double>()[t] * lse.as<double>()[t];
  }
  *lse_squared.as<double>() = squares;
}

}  // namespace cadre::reference
