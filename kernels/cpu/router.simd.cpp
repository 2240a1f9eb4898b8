#include "kernels/cpu/router.h"

#include "kernels/cpu/elementwise.simd.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

constexpr float kLowest = -__builtin_inff();

float largest_of(const float* x, int64_t count) {
  Vec largest = splat(kLowest);
  for_lanes(count, [&](int64_t e, auto lanes) { largest = max(lanes.padded(lanes.load(x + e), kLowest), largest); });
  return max_lane(largest);
}

// The logits of a token, or a copy of them in `room` with -infinity for who is not there.
const float* masked(const float* logits, const double* mask, int64_t experts, float* room) {
  if (mask == nullptr) return logits;
  for (int64_t e = 0; e < experts; ++e) room[e] = mask[e] == -__builtin_inf() ? kLowest : logits[e];
  return room;
}

void softmax(const RouterScores& scores, int64_t begin, int64_t end) {
  const int64_t experts = scores.experts;
  for (int64_t t = begin; t < end; ++t) {
    float* probs = scores.probs.data + t * scores.probs.stride;
    const float* logits = masked(scores.logits.data + t * scores.logits.stride, scores.mask, experts, probs);
    const float largest = largest_of(logits, experts);
    const float total = sum_lanes(experts, [&](int64_t e, auto lanes) {
      const Vec power = exp(lanes.padded(lanes.load(logits + e), kLowest) - largest);
      lanes.store(probs + e, power);
      return power;
    });
    const float inverse = 1.0f / total;
    for_lanes(experts, [&](int64_t e, auto lanes) { lanes.store(probs + e, lanes.load(probs + e) * inverse); });
    scores.lse[t] = largest + __builtin_logf(total);
  }
}

void softmax_backward(const RouterScoresBackward& scores, int64_t begin, int64_t end) {
  const int64_t experts = scores.experts;
  for (int64_t t = begin; t < end; ++t) {
    const float* probs = scores.probs.data + t * scores.probs.stride;
    float* dlogits = scores.dlogits.data + t * scores.dlogits.stride;
    float shift = scores.dlse != nullptr ? scores.dlse[t] : 0;
    if (scores.dprobs.data == nullptr) {
      for_lanes(experts, [&](int64_t e, auto lanes) { lanes.store(dlogits + e, lanes.load(probs + e) * shift); });
      continue;
    }
    const float* dprobs = scores.dprobs.data + t * scores.dprobs.stride;
    shift -= sum_lanes(experts, [&](int64_t e, auto lanes) { return lanes.load(probs + e) * lanes.load(dprobs + e); });
    for_lanes(experts, [&](int64_t e, auto lanes) {
      lanes.store(dlogits + e, lanes.load(probs + e) * (lanes.load(dprobs + e) + shift));
    });
  }
}

// As softmax, which leaves the powers of e to the sum.
void sigmoid_scores(const RouterScores& scores, int64_t begin, int64_t end) {
  const int64_t experts = scores.experts;
  for (int64_t t = begin; t < end; ++t) {
    float* probs = scores.probs.data + t * scores.probs.stride;
    const float* logits = masked(scores.logits.data + t * scores.logits.stride, scores.mask, experts, probs);
    const float largest = largest_of(logits, experts);
    const float total = sum_lanes(
        experts, [&](int64_t e, auto lanes) { return exp(lanes.padded(lanes.load(logits + e), kLowest) - largest); });
    for_lanes(experts, [&](int64_t e, auto lanes) { lanes.store(probs + e, sigmoid(lanes.load(logits + e))); });
    scores.lse[t] = largest + __builtin_logf(total);
  }
}

void sigmoid_backward(const RouterScoresBackward& scores, int64_t begin, int64_t end) {
  const int64_t experts = scores.experts;
  for (int64_t t = begin; t < end; ++t) {
    const float* probs = scores.probs.data + t * scores.probs.stride;
    float* dlogits = scores.dlogits.data + t * scores.dlogits.stride;
    if (scores.dlse != nullptr) {
      const float* logits = masked(scores.logits.data + t * scores.logits.stride, scores.mask, experts, dlogits);
      const float lse = scores.lse[t], factor = scores.dlse[t];
      for_lanes(experts,
                [&](int64_t e, auto lanes) { lanes.store(dlogits + e, exp(lanes.load(logits + e) - lse) * factor); });
    } else {
      for_lanes(experts, [&](int64_t e, auto lanes) { lanes.store(dlogits + e, zero()); });
    }
    if (scores.dprobs.data == nullptr) continue;
    const float* dprobs = scores.dprobs.data + t * scores.dprobs.stride;
    for_lanes(experts, [&](int64_t e, auto lanes) {
      const Vec p = lanes.load(probs + e);
      lanes.store(dlogits + e, lanes.load(dlogits + e) + lanes.load(dprobs + e) * p * (1.0f - p));
    });
  }
}

void column_sums(Rows values, int64_t begin, int64_t end, int64_t first, int64_t cols, float* sums) {
  for_lanes(cols, [&](int64_t c, auto lanes) {
    const float* column = values.data + first + c;
    Vec total = zero();
    for (int64_t t = begin; t < end; ++t) total += lanes.load(column + t * values.stride);
    lanes.store(sums + c, total);
  });
}

void spread(Rows rows, int64_t of_scope, int64_t cols, bool accumulate, Rows values, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* from = rows.data + t / of_scope * rows.stride;
    float* to = values.data + t * values.stride;
    for_lanes(cols, [&](int64_t c, auto lanes) {
      const Vec before = accumulate ? lanes.load(to + c) : zero();
      lanes.store(to + c, before + lanes.load(from + c));
    });
  }
}

// With shares s / S the entropy is log S - (sum of s log s) / S; 0 log 0 is 0.
void score_totals(Rows scores, int64_t experts, int64_t begin, int64_t end, float* totals) {
  const Vec least = splat(1.17549435e-38f);
  for_lanes(experts + 1, [&](int64_t e, auto lanes) { lanes.store(totals + e, zero()); });
  for (int64_t t = begin; t < end; ++t) {
    const float* const of_token = scores.data + t * scores.stride;
    const float sum = sum_lanes(experts, [&](int64_t e, auto lanes) { return lanes.load(of_token + e); });
    if (sum == 0) continue;
    const float inverse = 1.0f / sum;
    const float products = sum_lanes(experts, [&](int64_t e, auto lanes) {
      const Vec score = lanes.load(of_token + e);
      return score * log(max(score, least));
    });
    for_lanes(experts, [&](int64_t e, auto lanes) {
      lanes.store(totals + e, fma(lanes.load(of_token + e), splat(inverse), lanes.load(totals + e)));
    });
    totals[experts] += __builtin_logf(sum) - products * inverse;
  }
}

}  // namespace

const RouterTable kRouterTable = {softmax,     softmax_backward, sigmoid_scores, sigmoid_backward,
                                  column_sums, spread,           score_totals};

}  // namespace cadre::cpu::CADRE_ISA
