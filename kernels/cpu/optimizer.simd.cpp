#include "kernels/cpu/optimizer.h"

#include "kernels/cpu/vector.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

CADRE_INLINE void adamw_step(const AdamWPiece& piece, Vec gradient, Vec& weight, Vec& m, Vec& v) {
  const Vec g = gradient * splat(piece.gradient_scale);
  m = fma(splat(piece.beta1), m, splat(piece.one_minus_beta1) * g);
  v = fma(splat(piece.beta2), v, splat(piece.one_minus_beta2) * g * g);
  const Vec denominator = sqrt(v * splat(piece.v_correction)) + splat(piece.eps);
  const Vec direction = m * splat(piece.step_size) / denominator;
  weight = fma(splat(-piece.decay), weight, weight) - direction;
}

void adamw(const AdamWPiece& piece) {
  int64_t i = 0;
  for (; i + kWidth <= piece.count; i += kWidth) {
    Vec weight = load(piece.weights + i);
    Vec m = load(piece.m + i);
    Vec v = load(piece.v + i);
    adamw_step(piece, load(piece.gradients + i), weight, m, v);
    store(piece.weights + i, weight);
    store(piece.m + i, m);
    store(piece.v + i, v);
  }
  if (const int64_t rest = piece.count - i; rest > 0) {
    Vec weight = load_partial(piece.weights + i, rest);
    Vec m = load_partial(piece.m + i, rest);
    Vec v = load_partial(piece.v + i, rest);
    adamw_step(piece, load_partial(piece.gradients + i, rest), weight, m, v);
    store_partial(piece.weights + i, weight, rest);
    store_partial(piece.m + i, m, rest);
    store_partial(piece.v + i, v, rest);
  }
}

CADRE_INLINE void sgd_step(const SgdPiece& piece, Vec gradient, Vec& weight, Vec& buffer) {
  const Vec g = gradient * splat(piece.gradient_scale);
  buffer = fma(splat(piece.momentum), buffer, g);
  const Vec direction = piece.nesterov ? fma(splat(piece.momentum), buffer, g) : buffer;
  weight = fma(splat(-piece.lr), direction, fma(splat(-piece.decay), weight, weight));
}

void sgd(const SgdPiece& piece) {
  int64_t i = 0;
  for (; i + kWidth <= piece.count; i += kWidth) {
    Vec weight = load(piece.weights + i);
    Vec buffer = load(piece.buffer + i);
    sgd_step(piece, load(piece.gradients + i), weight, buffer);
    store(piece.weights + i, weight);
    store(piece.buffer + i, buffer);
  }
  if (const int64_t rest = piece.count - i; rest > 0) {
    Vec weight = load_partial(piece.weights + i, rest);
    Vec buffer = load_partial(piece.buffer + i, rest);
    sgd_step(piece, load_partial(piece.gradients + i, rest), weight, buffer);
    store_partial(piece.weights + i, weight, rest);
    store_partial(piece.buffer + i, buffer, rest);
  }
}

constexpr int64_t kPartialSums = 16;

double sum_of_squares(const float* x, int64_t count) {
  constexpr int64_t kVectors = kPartialSums / kWidth;
  DoubleVec low[kVectors] = {};
  DoubleVec high[kVectors] = {};
  int64_t i = 0;
  for (; i + kPartialSums <= count; i += kPartialSums) {
    for (int64_t j = 0; j < kVectors; ++j) {
      const Vec part = load(x + i + j * kWidth);
      low[j] = fma(widen_low(part), widen_low(part), low[j]);
      high[j] = fma(widen_high(part), widen_high(part), high[j]);
    }
  }
  double sums[kPartialSums];
  for (int64_t j = 0; j < kVectors; ++j) {
    store(sums + j * kWidth, low[j]);
    store(sums + j * kWidth + kWidth / 2, high[j]);
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) sums[lane] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (int64_t half = kPartialSums / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}

void subtract_from(const float* x, float* y, int64_t count) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(y + i, load(x + i) - load(y + i));
  if (const int64_t rest = count - i; rest > 0) {
    store_partial(y + i, load_partial(x + i, rest) - load_partial(y + i, rest), rest);
  }
}

}  // namespace

const OptimizerTable kOptimizerTable = {
    .adamw = adamw, .sgd = sgd, .sum_of_squares = sum_of_squares, .subtract_from = subtract_from};

}  // namespace cadre::cpu::CADRE_ISA
