#include "kernels/cpu/cross_entropy.h"

#include "kernels/cpu/elementwise.simd.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

// 8 KiB: the second look at a block comes from the first-level cache, so memory is read once (Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018, by blocks).
constexpr int64_t kBlock = 2048;
constexpr float kLowest = -__builtin_inff();

float largest_of(const float* x, int64_t count) {
  Vec largest[4] = {splat(kLowest), splat(kLowest), splat(kLowest), splat(kLowest)};
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    for (int64_t v = 0; v < 4; ++v) largest[v] = max(load(x + i + v * kWidth), largest[v]);
  }
  for_lanes(count - i, [&](int64_t rest, auto lanes) {
    largest[0] = max(lanes.padded(lanes.load(x + i + rest), kLowest), largest[0]);
  });
  return max_lane(max(max(largest[0], largest[1]), max(largest[2], largest[3])));
}

// Log of the sum of exponentials. An infinite or NaN logit gives a non-finite result; -infinity is probability 0.
double log_sum_exp(const float* x, int64_t count) {
  float largest = kLowest;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const float* block = x + begin;
    const int64_t length = count - begin < kBlock ? count - begin : kBlock;
    const float block_largest = largest_of(block, length);
    if (block_largest > largest) {
      total *= __builtin_exp(static_cast<double>(largest) - static_cast<double>(block_largest));
      largest = block_largest;
    }
    const float shift = largest == kLowest ? 0.0f : largest;
    total += static_cast<double>(sum_lanes(
        length, [&](int64_t i, auto lanes) { return exp(lanes.padded(lanes.load(block + i), kLowest) - shift); }));
  }
  return static_cast<double>(largest) + __builtin_log(total);
}

void forward(Rows logits, const int32_t* targets, float* losses, float* lse, int64_t vocabulary, int64_t begin,
             int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* x = logits.data + t * logits.stride;
    const double log_total = log_sum_exp(x, vocabulary);
    lse[t] = static_cast<float>(log_total);
    losses[t] = targets[t] < 0 ? 0.0f : static_cast<float>(log_total - static_cast<double>(x[targets[t]]));
  }
}

void backward(Rows logits, const int32_t* targets, const float* lse, const float* dlosses, Rows dlogits,
              int64_t vocabulary, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* x = logits.data + t * logits.stride;
    float* dx = dlogits.data + t * dlogits.stride;
    if (targets[t] < 0) {
      for_lanes(vocabulary, [&](int64_t v, auto lanes) { lanes.store(dx + v, zero()); });
      continue;
    }
    const float scale = dlosses[t];
    const float shift = lse[t];
    for_lanes(vocabulary, [&](int64_t v, auto lanes) { lanes.store(dx + v, exp(lanes.load(x + v) - shift) * scale); });
    dx[targets[t]] -= scale;
  }
}

}  // namespace

const CrossEntropyTable kCrossEntropyTable = {forward, backward};

}  // namespace cadre::cpu::CADRE_ISA
