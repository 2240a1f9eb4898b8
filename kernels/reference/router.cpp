#include "kernels/reference/router.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/reference/elementwise.h"

namespace cadre::reference {
namespace {

bool is_there(TensorView mask, int64_t expert) { return !mask || mask.as<double>()[expert] != -INFINITY; }

// The logits of a row, -infinity for who is not there.
std::vector<double> masked(TensorView logits, TensorView mask, int64_t token) {
  std::vector<double> x(row(logits, token), row(logits, token) + logits.cols());
  for (int64_t e = 0; e < logits.cols(); ++e) {
    if (!is_there(mask, e)) x[static_cast<size_t>(e)] = -INFINITY;
  }
  return x;
}

double log_sum_exp(const std::vector<double>& x) {
  const double largest = *std::max_element(x.begin(), x.end());
  double total = 0;
  for (const double value : x) total += std::exp(value - largest);
  return largest + std::log(total);
}

int64_t scope_tokens(const TensorView& values, const TensorView& scopes) {
  return std::max<int64_t>(1, values.rows() / std::max<int64_t>(1, scopes.rows()));
}

}  // namespace

void router_softmax(TensorView logits, TensorView mask, TensorView probs, TensorView lse) {
  for (int64_t t = 0; t < logits.rows(); ++t) {
    const std::vector<double> x = masked(logits, mask, t);
    const double whole = lse.as<double>()[t] = log_sum_exp(x);
    std::transform(x.begin(), x.end(), row(probs, t), [&](double value) { return std::exp(value - whole); });
  }
}

void router_softmax_backward(TensorView probs, TensorView dprobs, TensorView dlse, TensorView dlogits) {
  const int64_t experts = probs.cols();
  for (int64_t t = 0; t < probs.rows(); ++t) {
    const double* p = row(probs, t);
    const double mean = dprobs ? std::inner_product(p, p + experts, row(dprobs, t), 0.0) : 0;
    const double of_lse = dlse ? dlse.as<double>()[t] : 0;
    for (int64_t e = 0; e < experts; ++e) {
      row(dlogits, t)[e] = p[e] * ((dprobs ? row(dprobs, t)[e] : 0) - mean + of_lse);
    }
  }
}

void router_sigmoid(TensorView logits, TensorView mask, TensorView probs, TensorView lse) {
  for (int64_t t = 0; t < logits.rows(); ++t) {
    const std::vector<double> x = masked(logits, mask, t);
    lse.as<double>()[t] = log_sum_exp(x);
    std::transform(x.begin(), x.end(), row(probs, t), [](double value) { return 1 / (1 + std::exp(-value)); });
  }
}

void router_sigmoid_backward(TensorView logits, TensorView mask, TensorView probs, TensorView lse, TensorView dprobs,
                             TensorView dlse, TensorView dlogits) {
  for (int64_t t = 0; t < logits.rows(); ++t) {
    const std::vector<double> x = masked(logits, mask, t);
    for (int64_t e = 0; e < logits.cols(); ++e) {
      const double p = row(probs, t)[e];
      const double of_lse = dlse ? dlse.as<double>()[t] * std::exp(x[static_cast<size_t>(e)] - lse.as<double>()[t]) : 0;
      row(dlogits, t)[e] = (dprobs ? row(dprobs, t)[e] * p * (1 - p) : 0) + of_lse;
    }
  }
}

void scope_sums(TensorView values, TensorView sums) {
  const int64_t experts = values.cols(), of_scope = scope_tokens(values, sums);
  for (int64_t s = 0; s < sums.rows(); ++s) std::fill_n(row(sums, s), experts, 0.0);
  for (int64_t t = 0; t < values.rows(); ++t) {
    for (int64_t e = 0; e < experts; ++e) row(sums, t / of_scope)[e] += row(values, t)[e];
  }
}

void scope_sums_backward(TensorView dsums, TensorView dvalues, bool accumulate) {
  const int64_t of_scope = scope_tokens(dvalues, dsums);
  for (int64_t t = 0; t < dvalues.rows(); ++t) {
    for (int64_t e = 0; e < dvalues.cols(); ++e) {
      row(dvalues, t)[e] = (accumulate ? row(dvalues, t)[e] : 0) + row(dsums, t / of_scope)[e];
    }
  }
}

void score_totals(TensorView scores, TensorView totals) {
  const int64_t experts = scores.cols();
  double* const result = totals.as<double>();
  std::fill_n(result, experts + 1, 0.0);
  for (int64_t t = 0; t < scores.rows(); ++t) {
    const double* of_token = row(scores, t);
    const double sum = std::accumulate(of_token, of_token + experts, 0.0);
    for (int64_t e = 0; e < experts && sum != 0; ++e) {
      const double share = of_token[e] / sum;
      result[e] += share;
      if (share != 0) result[experts] -= share * std::log(share);
    }
  }
}

}  // namespace cadre::reference
