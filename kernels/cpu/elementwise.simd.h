#pragma once
// Loops over the elements of a row, for kernels/cpu/*.simd.cpp. A body is written once, for `lanes` that load and store
// either whole vectors or the tail; it must be [[gnu::always_inline]]-able, i.e. a lambda that is used in place.

#include "kernels/cpu/vector.h"

namespace cadre::cpu::CADRE_ISA {

struct WholeLanes {
  CADRE_INLINE Vec load(const float* p) const { return CADRE_ISA::load(p); }
  CADRE_INLINE void store(float* p, Vec v) const { CADRE_ISA::store(p, v); }
  // Lanes past the end become `pad`.
  CADRE_INLINE Vec padded(Vec v, float) const { return v; }
};

struct TailLanes {
  int64_t count;
  CADRE_INLINE Vec load(const float* p) const { return load_partial(p, count); }
  CADRE_INLINE void store(float* p, Vec v) const { store_partial(p, v, count); }
  CADRE_INLINE Vec padded(Vec v, float pad) const {
    return select(lane_numbers() < static_cast<int32_t>(count), v, splat(pad));
  }
};

// body(i, lanes) for i = 0, kWidth, ... below `count`.
template <class Body>
CADRE_INLINE void for_lanes(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) body(i, WholeLanes{});
  if (i < count) body(i, TailLanes{count - i});
}

// As for_lanes, summing what body(i, lanes) returns; the order of the additions depends on `count` alone. Lanes past
// the end count too: they see loads of 0.
template <class Body>
CADRE_INLINE float sum_lanes(int64_t count, Body body) {
  Vec sums[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    sums[0] += body(i, WholeLanes{});
    sums[1] += body(i + kWidth, WholeLanes{});
    sums[2] += body(i + 2 * kWidth, WholeLanes{});
    sums[3] += body(i + 3 * kWidth, WholeLanes{});
  }
  for (; i + kWidth <= count; i += kWidth) sums[0] += body(i, WholeLanes{});
  if (i < count) sums[1] += body(i, TailLanes{count - i});
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace cadre::cpu::CADRE_ISA
