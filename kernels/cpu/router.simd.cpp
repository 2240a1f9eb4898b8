#include "kernels/cpu/router.h"

#include "kernels/cpu/elementwise.simd.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

// probs = softmax(logits); returns the log of the denominator.
float softmax(const float* logits, float* probs, int64_t experts) {
  const float lowest = -__builtin_inff();
  Vec largest_lanes = splat(lowest);
  for_lanes(experts, [&](int64_t e, auto lanes) {
    largest_lanes = max(lanes.padded(lanes.load(logits + e), lowest), largest_lanes);
  });
  const float largest = max_lane(largest_lanes);
  const float total = sum_lanes(experts, [&](int64_t e, auto lanes) {
    const Vec power = exp(lanes.padded(lanes.load(logits + e), lowest) - largest);
    lanes.store(probs + e, power);
    return power;
  });
  const float inverse = 1.0f / total;
  for_lanes(experts, [&](int64_t e, auto lanes) { lanes.store(probs + e, lanes.load(probs + e) * inverse); });
  return largest + __builtin_logf(total);
}

// A sorted list of the best k so far; an expert enters only by beating the last one, so ties go to the lower id. The
// first k enter always: the ids are valid whatever the probabilities (NaN) are.
void choose(const float* probs, int64_t experts, int64_t k, int32_t* ids) {
  float best[kMostRouterChoices];
  for (int64_t e = 0; e < experts; ++e) {
    const float p = probs[e];
    if (e >= k && !(p > best[k - 1])) continue;
    int64_t place = e < k ? e : k - 1;
    for (; place > 0 && p > best[place - 1]; --place) {
      best[place] = best[place - 1];
      ids[place] = ids[place - 1];
    }
    best[place] = p;
    ids[place] = static_cast<int32_t>(e);
  }
}

void forward(const RouterForward& router, int64_t begin, int64_t end) {
  const int64_t k = router.k;
  for (int64_t t = begin; t < end; ++t) {
    float* probs = router.probs.data + t * router.probs.stride;
    int32_t* ids = router.ids + t * k;
    float* weights = router.weights + t * k;
    router.lse[t] = softmax(router.logits.data + t * router.logits.stride, probs, router.experts);
    if (router.replay != nullptr) {
      for (int64_t j = 0; j < k; ++j) ids[j] = router.replay[t * k + j];
    } else {
      choose(probs, router.experts, k, ids);
    }
    float total = 0;
    for (int64_t j = 0; j < k; ++j) total += probs[ids[j]];
    for (int64_t j = 0; j < k; ++j) weights[j] = router.renormalise ? probs[ids[j]] / total : probs[ids[j]];
  }
}

// As the reference, without a row of d/dp: the chosen experts' part is added to what acts on all. dlogits may be probs.
void backward(const RouterBackward& router, int64_t begin, int64_t end) {
  const int64_t k = router.k;
  const int64_t experts = router.experts;
  for (int64_t t = begin; t < end; ++t) {
    const float* probs = router.probs.data + t * router.probs.stride;
    const int32_t* ids = router.ids + t * k;
    const float* dweights = router.dweights + t * k;
    float chosen_total = 0;
    float weighted = 0;
    for (int64_t j = 0; j < k; ++j) {
      chosen_total += probs[ids[j]];
      weighted += probs[ids[j]] * dweights[j];
    }
    float through[kMostRouterChoices];  // p_j d/dp_j
    float mean = 0;
    for (int64_t j = 0; j < k; ++j) {
      const float slope = router.renormalise ? (dweights[j] - weighted / chosen_total) / chosen_total : dweights[j];
      through[j] = probs[ids[j]] * slope;
      mean += through[j];
    }
    float* dlogits = router.dlogits.data + t * router.dlogits.stride;
    const float z = 2.0f * router.z_scale * router.lse[t];
    if (router.balance.data != nullptr) {
      const float* balance = router.balance.data + t / router.scope_tokens * router.balance.stride;
      mean +=
          sum_lanes(experts, [&](int64_t e, auto lanes) { return lanes.load(probs + e) * lanes.load(balance + e); });
      const float shift = z - mean;
      for_lanes(experts, [&](int64_t e, auto lanes) {
        lanes.store(dlogits + e, lanes.load(probs + e) * (lanes.load(balance + e) + shift));
      });
    } else {
      const float shift = z - mean;
      for_lanes(experts, [&](int64_t e, auto lanes) { lanes.store(dlogits + e, lanes.load(probs + e) * shift); });
    }
    for (int64_t j = 0; j < k; ++j) dlogits[ids[j]] += through[j];
  }
}

void column_sums(Rows probs, int64_t begin, int64_t end, int64_t first, int64_t cols, float* sums) {
  for_lanes(cols, [&](int64_t c, auto lanes) {
    const float* column = probs.data + first + c;
    Vec total = zero();
    for (int64_t t = begin; t < end; ++t) total += lanes.load(column + t * probs.stride);
    lanes.store(sums + c, total);
  });
}

}  // namespace

const RouterTable kRouterTable = {forward, backward, column_sums};

}  // namespace cadre::cpu::CADRE_ISA
