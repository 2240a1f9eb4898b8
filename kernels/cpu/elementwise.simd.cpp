#include "kernels/cpu/elementwise.simd.h"

#include "kernels/cpu/elementwise.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

void fill(float value, float* x, int64_t count) {
  for_lanes(count, [&](int64_t i, auto lanes) { lanes.store(x + i, splat(value)); });
}

void add(const float* a, const float* b, float* out, int64_t count) {
  for_lanes(count, [&](int64_t i, auto lanes) { lanes.store(out + i, lanes.load(a + i) + lanes.load(b + i)); });
}

void scale(float factor, float* x, int64_t count) {
  for_lanes(count, [&](int64_t i, auto lanes) { lanes.store(x + i, lanes.load(x + i) * factor); });
}

double block_sum(const float* x, int64_t count) {
  constexpr int64_t kSums = 16;
  constexpr int64_t kVectors = kSums / (kWidth / 2);
  DoubleVec vectors[kVectors] = {};
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (int64_t v = 0; v < kVectors; ++v) vectors[v] += widen(x + i + v * (kWidth / 2));
  }
  double sums[kSums];
  for (int64_t v = 0; v < kVectors; ++v) store(sums + v * (kWidth / 2), vectors[v]);
  for (int64_t s = 0; i < count; ++i, ++s) sums[s] += static_cast<double>(x[i]);
  for (int64_t half = kSums / 2; half > 0; half /= 2) {
    for (int64_t s = 0; s < half; ++s) sums[s] += sums[s + half];
  }
  return sums[0];
}

float dot(const float* a, const float* b, int64_t count) {
  return sum_lanes(count, [&](int64_t i, auto lanes) { return lanes.load(a + i) * lanes.load(b + i); });
}

}  // namespace

const ElementwiseTable kElementwiseTable = {fill, add, scale, block_sum, dot};

}  // namespace cadre::cpu::CADRE_ISA
