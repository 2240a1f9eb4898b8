#include "kernels/cpu/permute.h"

#include "kernels/cpu/elementwise.simd.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

// Rows of a token that were not dropped, in order of its choices.
struct Chosen {
  const float* rows[kCombinedAtOnce];
  float weights[kCombinedAtOnce];
  int64_t count;
};

// Of slots from `slot` on, as many as there is room for. Returns the next slot.
CADRE_INLINE int64_t collect(const CombineForward& combine, int64_t slot, int64_t end, Chosen& chosen) {
  chosen.count = 0;
  for (; slot < end && chosen.count < kCombinedAtOnce; ++slot) {
    const int64_t row = combine.row_of_slot[slot];
    if (row < 0) continue;
    chosen.rows[chosen.count] = combine.y.data + row * combine.y.stride;
    chosen.weights[chosen.count] = combine.weights != nullptr ? combine.weights[slot] : 1.0f;
    ++chosen.count;
  }
  return slot;
}

template <bool kAccumulate, int64_t kFixedCount>
CADRE_INLINE void add_up(const Chosen& chosen, float* out, int64_t cols) {
  const int64_t count = kFixedCount > 0 ? kFixedCount : chosen.count;
  for_lanes(cols, [&](int64_t c, auto lanes) {
    Vec total = zero();
    for (int64_t j = 0; j < count; ++j) total = fma(splat(chosen.weights[j]), lanes.load(chosen.rows[j] + c), total);
    lanes.store(out + c, kAccumulate ? lanes.load(out + c) + total : total);
  });
}

template <bool kAccumulate>
CADRE_INLINE void combine_tokens(const CombineForward& combine, int64_t begin, int64_t end) {
  Chosen chosen;
  for (int64_t t = begin; t < end; ++t) {
    const int64_t last = (t + 1) * combine.k;
    int64_t slot = collect(combine, t * combine.k, last, chosen);
    float* out = combine.out.data + t * combine.out.stride;
    switch (chosen.count) {
      case 1: add_up<kAccumulate, 1>(chosen, out, combine.cols); break;
      case 2: add_up<kAccumulate, 2>(chosen, out, combine.cols); break;
      case 4: add_up<kAccumulate, 4>(chosen, out, combine.cols); break;
      default: add_up<kAccumulate, 0>(chosen, out, combine.cols); break;
    }
    while (slot < last) {
      slot = collect(combine, slot, last, chosen);
      add_up<true, 0>(chosen, out, combine.cols);
    }
  }
}

void combine(const CombineForward& task, int64_t begin, int64_t end) {
  if (task.accumulate) return combine_tokens<true>(task, begin, end);
  combine_tokens<false>(task, begin, end);
}

void combine_backward(const CombineBackward& task, int64_t begin, int64_t end) {
  for (int64_t slot = begin * task.k; slot < end * task.k; ++slot) {
    const int64_t row = task.row_of_slot[slot];
    if (row < 0) {
      task.dweights[slot] = 0;
      continue;
    }
    const float* y = task.y.data + row * task.y.stride;
    const float* dout = task.dout.data + slot / task.k * task.dout.stride;
    float* dy = task.dy.data + row * task.dy.stride;
    const float weight = task.weights[slot];
    task.dweights[slot] = sum_lanes(task.cols, [&](int64_t c, auto lanes) {
      const Vec upstream = lanes.load(dout + c);
      const Vec term = upstream * lanes.load(y + c);
      lanes.store(dy + c, upstream * weight);
      return term;
    });
  }
}

}  // namespace

const PermuteTable kPermuteTable = {combine, combine_backward};

}  // namespace cadre::cpu::CADRE_ISA
