#include "autograd/ops/noise.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "autograd/ops/elements.h"

namespace cadre::autograd {
namespace {

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double normal_density(double z) { return std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi); }
double normal_below(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }

// What an expert of a token has to beat to be among its top k, and whose logit that is: of the others, the k-th.
struct Threshold {
  std::vector<int64_t> order;  // by noisy logits, highest first
  int64_t k;
  // `among`: the expert is itself among the top k, so that the one behind them is the k-th of the others.
  int64_t rival(bool among) const { return order[static_cast<size_t>(among ? k : k - 1)]; }
};

Threshold threshold_of(TensorView noisy, int64_t token, int64_t k) {
  std::vector<int64_t> order(static_cast<size_t>(noisy.cols()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return read_element(noisy, token, a) > read_element(noisy, token, b); });
  return {std::move(order), k};
}

// visit(expert, its rival, softplus(spread), (logit - the rival's) / that).
template <class Visit>
void each_expert(TensorView logits, TensorView spread, TensorView noisy, int64_t token, int64_t k, const Visit& visit) {
  const Threshold threshold = threshold_of(noisy, token, k);
  for (int64_t place = 0; place < logits.cols(); ++place) {
    const int64_t expert = threshold.order[static_cast<size_t>(place)], rival = threshold.rival(place < k);
    const double deviation = softplus(read_element(spread, token, expert));
    visit(expert, rival, deviation,
          (read_element(logits, token, expert) - read_element(noisy, token, rival)) / deviation);
  }
}

void require_alike(bool& fits, std::span<const TensorSpec> in, size_t count) {
  fits = in.size() == count && in[0].shape.rank() == 2;
  for (size_t i = 1; fits && i < count; ++i) fits = in[i].shape == in[0].shape;
}

}  // namespace

std::vector<TensorSpec> Jitter::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2, in, "x [tokens, h]");
  return {in[0]};
}

void Jitter::forward(const Forward& f) const { kernels::jitter(f.context.exec, f.in[0], epsilon_, draws_, f.out[0]); }

void Jitter::backward_inputs(Backward& b) const {
  kernels::jitter(b.context().exec, b.gradient(0), epsilon_, draws_, b.target(0).view);
}

std::vector<TensorSpec> AddNoise::infer(std::span<const TensorSpec> in) const {
  bool fits = false;
  require_alike(fits, in, 2);
  require(fits, in, "logits and spread [tokens, experts]");
  return {in[0]};
}

void AddNoise::forward(const Forward& f) const {
  const TensorView out = f.out[0];
  kernels::fill_normal(f.context.exec, draws_, out);
  if (f.context.exec.dry) return;
  for (int64_t t = 0; t < out.rows(); ++t) {
    for (int64_t e = 0; e < out.cols(); ++e) {
      write_element(out, t, e,
                    read_element(f.in[0], t, e) + read_element(out, t, e) * softplus(read_element(f.in[1], t, e)));
    }
  }
}

void AddNoise::backward_inputs(Backward& b) const {
  if (b.wants(1)) {
    const TensorView dspread = b.target(1).view, spread = b.in(1), gradient = b.gradient(0);
    kernels::fill_normal(b.context().exec, draws_, dspread);
    for (int64_t t = 0; t < dspread.rows() && !b.context().exec.dry; ++t) {
      for (int64_t e = 0; e < dspread.cols(); ++e) {
        write_element(dspread, t, e,
                      read_element(dspread, t, e) * sigmoid(read_element(spread, t, e)) * read_element(gradient, t, e));
      }
    }
  }
  if (b.wants(0)) b.pass(0, 0);
}

std::vector<TensorSpec> NoisyLoad::infer(std::span<const TensorSpec> in) const {
  bool fits = false;
  require_alike(fits, in, 3);
  require(fits && top_k_ >= 1 && top_k_ < in[0].shape[1], in, "logits, spread, noisy [tokens, experts], k < experts");
  return {in[0]};
}

void NoisyLoad::forward(const Forward& f) const {
  if (f.context.exec.dry) return;
  for (int64_t t = 0; t < f.out[0].rows(); ++t) {
    each_expert(f.in[0], f.in[1], f.in[2], t, top_k_,
                [&](int64_t e, int64_t, double, double z) { write_element(f.out[0], t, e, normal_below(z)); });
  }
}

// With z = (logit_e - noisy_r) / s, s = softplus(spread_e): dP = density(z) (dlogit_e - dnoisy_r - z ds) / s.
void NoisyLoad::backward_inputs(Backward& b) const {
  const TensorView dlogits = b.target(0).view, dspread = b.target(1).view, dnoisy = b.target(2).view;
  const TensorView logits = b.in(0), spread = b.in(1), noisy = b.in(2), gradient = b.gradient(0);
  if (b.context().exec.dry) return;
  for (int64_t t = 0; t < logits.rows(); ++t) {
    for (int64_t e = 0; e < logits.cols(); ++e) write_element(dnoisy, t, e, 0);
    each_expert(logits, spread, noisy, t, top_k_, [&](int64_t e, int64_t rival, double deviation, double z) {
      const double slope = read_element(gradient, t, e) * normal_density(z) / deviation;
      write_element(dlogits, t, e, slope);
      write_element(dspread, t, e, -slope * z * sigmoid(read_element(spread, t, e)));
      write_element(dnoisy, t, rival, read_element(dnoisy, t, rival) - slope);
    });
  }
}

}  // namespace cadre::autograd
