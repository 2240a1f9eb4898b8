#include "kernels/cpu/activation.h"

#include "kernels/cpu/elementwise.simd.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

constexpr float kTwoSqrtTwoOverPi = 1.5957691216057308f;
constexpr float kCubic = 0.044715f;

// The next row: the hardware's prefetchers stop at the jump from one half row to the next (1.5x for rows from memory).
CADRE_INLINE void prefetch_next_row(const float* p, int64_t stride) { __builtin_prefetch(p + stride); }

void swiglu_forward(Rows h, Rows out, int64_t width, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = h.data + r * h.stride;
    const float* up = gate + width;
    float* to = out.data + r * out.stride;
    for_lanes(width, [&](int64_t c, auto lanes) {
      prefetch_next_row(gate + c, h.stride);
      prefetch_next_row(up + c, h.stride);
      const Vec g = lanes.load(gate + c);
      lanes.store(to + c, g * sigmoid(g) * lanes.load(up + c));
    });
  }
}

void swiglu_backward(Rows h, Rows dout, Rows dh, int64_t width, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = h.data + r * h.stride;
    const float* up = gate + width;
    const float* from = dout.data + r * dout.stride;
    float* dgate = dh.data + r * dh.stride;
    float* dup = dgate + width;
    for_lanes(width, [&](int64_t c, auto lanes) {
      prefetch_next_row(gate + c, h.stride);
      prefetch_next_row(up + c, h.stride);
      const Vec g = lanes.load(gate + c);
      const Vec u = lanes.load(up + c);
      const Vec d = lanes.load(from + c);
      const Vec s = sigmoid(g);
      const Vec silu = g * s;
      // s (1 + g (1 - s)) = s + silu (1 - s)
      const Vec slope = fma(silu, 1.0f - s, s);
      lanes.store(dgate + c, d * u * slope);
      lanes.store(dup + c, d * silu);
    });
  }
}

// 0.5 (1 + tanh(u)) = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
CADRE_INLINE Vec gelu_gate(Vec x) {
  return sigmoid(x * fma(x * x, splat(kTwoSqrtTwoOverPi * kCubic), splat(kTwoSqrtTwoOverPi)));
}

void gelu_forward(Rows h, Rows out, int64_t width, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* from = h.data + r * h.stride;
    float* to = out.data + r * out.stride;
    for_lanes(width, [&](int64_t c, auto lanes) {
      const Vec x = lanes.load(from + c);
      lanes.store(to + c, x * gelu_gate(x));
    });
  }
}

void gelu_backward(Rows h, Rows dout, Rows dh, int64_t width, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* from = h.data + r * h.stride;
    const float* upstream = dout.data + r * dout.stride;
    float* to = dh.data + r * dh.stride;
    for_lanes(width, [&](int64_t c, auto lanes) {
      const Vec x = lanes.load(from + c);
      const Vec gate = gelu_gate(x);
      const Vec slope = fma(x * x, splat(3.0f * kTwoSqrtTwoOverPi * kCubic), splat(kTwoSqrtTwoOverPi));
      // Where the gate is 0 or 1, x^3 may be infinite: 0 * infinity must not appear.
      const Vec bend = gate * (1.0f - gate);
      const Vec curved = select(bend > 0.0f, x * slope * bend, zero());
      lanes.store(to + c, lanes.load(upstream + c) * (gate + curved));
    });
  }
}

}  // namespace

const ActivationTable kActivationTable = {swiglu_forward, swiglu_backward, gelu_forward, gelu_backward};

}  // namespace cadre::cpu::CADRE_ISA
