// Rotary embedding and QK-norm of one instruction set. A head's halves x and y turn by the angles of the token's
// position: x' = x cos - y sin, y' = y cos + x sin; gradients turn back.

#include "kernels/cpu/rotary.h"

#include "kernels/cpu/vector.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

CADRE_INLINE Vec read(const float* p, int64_t count) { return count >= kWidth ? load(p) : load_partial(p, count); }
CADRE_INLINE void write(float* p, Vec x, int64_t count) {
  if (count >= kWidth) {
    store(p, x);
  } else {
    store_partial(p, x, count);
  }
}

// A pair of parts, one of each half of a head.
struct Pair {
  Vec x, y;
};
CADRE_INLINE Pair read_pair(const float* head, int64_t half, int64_t i) {
  return {read(head + i, half - i), read(head + half + i, half - i)};
}
CADRE_INLINE void write_pair(float* head, int64_t half, int64_t i, Pair pair) {
  write(head + i, pair.x, half - i);
  write(head + half + i, pair.y, half - i);
}
// `angles` holds cosines and sines, like halves of a head.
CADRE_INLINE Pair turn(Pair pair, Pair angles) {
  return {pair.x * angles.x - pair.y * angles.y, pair.y * angles.x + pair.x * angles.y};
}
CADRE_INLINE Pair turn_back(Pair pair, Pair angles) {
  return {pair.x * angles.x + pair.y * angles.y, pair.y * angles.x - pair.x * angles.y};
}

CADRE_INLINE float inverse_rms(const float* head, int64_t head_dim, float eps) {
  Vec squares = zero();
  for (int64_t i = 0; i < head_dim; i += kWidth) {
    const Vec x = read(head + i, head_dim - i);
    squares = fma(x, x, squares);
  }
  return 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(head_dim) + eps);
}

void copy(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += kWidth) write(to + i, read(from + i, count - i), count - i);
}

void forward_head(const float* head, const float* angles, const float* weight, float rstd, int64_t half, float* out) {
  for (int64_t i = 0; i < half; i += kWidth) {
    Pair pair = read_pair(head, half, i);
    if (weight != nullptr) {
      const Pair scale = read_pair(weight, half, i);
      pair = {pair.x * rstd * scale.x, pair.y * rstd * scale.y};
    }
    write_pair(out, half, i, turn(pair, read_pair(angles, half, i)));
  }
}

void forward(const RotaryArgs& args, int64_t begin, int64_t end) {
  const int64_t rotated = args.heads + args.kv_heads;
  for (int64_t token = begin; token < end; ++token) {
    const float* row = args.qkv.data + token * args.qkv.stride;
    float* out = args.out.data + token * args.out.stride;
    const float* angles = args.table.data + args.positions[token] * args.table.stride;
    for (int64_t h = 0; h < rotated; ++h) {
      const float* head = row + h * args.head_dim;
      const float* weight = h < args.heads ? args.q_weight : args.k_weight;
      float rstd = 1.0f;
      if (weight != nullptr) {
        rstd = inverse_rms(head, args.head_dim, args.norm_eps);
        args.rstd.data[token * args.rstd.stride + h] = rstd;
      }
      forward_head(head, angles, weight, rstd, args.head_dim / 2, out + h * args.head_dim);
    }
    copy(row + rotated * args.head_dim, out + rotated * args.head_dim, args.kv_heads * args.head_dim);
  }
}

// With g = dy weight and n = x rstd: dx = rstd (g - n mean(g n)).
void backward_head(const float* head, const float* angles, const float* weight, float rstd, int64_t half,
                   const float* dout, float* dhead) {
  Vec products = zero();
  for (int64_t i = 0; i < half; i += kWidth) {
    Pair gradient = turn_back(read_pair(dout, half, i), read_pair(angles, half, i));
    if (weight != nullptr) {
      const Pair scale = read_pair(weight, half, i);
      const Pair x = read_pair(head, half, i);
      gradient = {gradient.x * scale.x, gradient.y * scale.y};
      products = fma(gradient.y, x.y, fma(gradient.x, x.x, products));
    }
    write_pair(dhead, half, i, gradient);
  }
  if (weight == nullptr) return;
  const float mean = sum(products) * rstd * rstd / static_cast<float>(2 * half);  // times x: n mean(g n)
  for (int64_t i = 0; i < half; i += kWidth) {
    const Pair gradient = read_pair(dhead, half, i);
    const Pair x = read_pair(head, half, i);
    write_pair(dhead, half, i, {rstd * (gradient.x - x.x * mean), rstd * (gradient.y - x.y * mean)});
  }
}

void backward(const RotaryArgs& args, int64_t begin, int64_t end) {
  const int64_t rotated = args.heads + args.kv_heads;
  for (int64_t token = begin; token < end; ++token) {
    const float* row = args.qkv.data + token * args.qkv.stride;
    const float* dout = args.dout.data + token * args.dout.stride;
    float* dqkv = args.dqkv.data + token * args.dqkv.stride;
    const float* angles = args.table.data + args.positions[token] * args.table.stride;
    for (int64_t h = 0; h < rotated; ++h) {
      const float* weight = h < args.heads ? args.q_weight : args.k_weight;
      const float rstd = weight != nullptr ? args.rstd.data[token * args.rstd.stride + h] : 1.0f;
      const int64_t at = h * args.head_dim;
      backward_head(row + at, angles, weight, rstd, args.head_dim / 2, dout + at, dqkv + at);
    }
    copy(dout + rotated * args.head_dim, dqkv + rotated * args.head_dim, args.kv_heads * args.head_dim);
  }
}

void weight_gradient(const RotaryArgs& args, int64_t begin, int64_t end, float* dq_weight, float* dk_weight) {
  const int64_t half = args.head_dim / 2;
  for (int64_t i = 0; i < args.head_dim; ++i) dq_weight[i] = dk_weight[i] = 0;
  for (int64_t token = begin; token < end; ++token) {
    const float* row = args.qkv.data + token * args.qkv.stride;
    const float* dout = args.dout.data + token * args.dout.stride;
    const float* angles = args.table.data + args.positions[token] * args.table.stride;
    for (int64_t h = 0; h < args.heads + args.kv_heads; ++h) {
      const Vec rstd = splat(args.rstd.data[token * args.rstd.stride + h]);
      float* dweight = h < args.heads ? dq_weight : dk_weight;
      const int64_t at = h * args.head_dim;
      for (int64_t i = 0; i < half; i += kWidth) {
        const Pair gradient = turn_back(read_pair(dout + at, half, i), read_pair(angles, half, i));
        const Pair x = read_pair(row + at, half, i);
        const Pair sums = read_pair(dweight, half, i);
        write_pair(dweight, half, i, {fma(gradient.x, x.x * rstd, sums.x), fma(gradient.y, x.y * rstd, sums.y)});
      }
    }
  }
}

}  // namespace

extern const RotaryTable kRotaryTable;
const RotaryTable kRotaryTable = {forward, backward, weight_gradient};

}  // namespace cadre::cpu::CADRE_ISA
