#pragma once
// The matrix products of a panel, held in registers, and transposes between rows and panels. Only for
// attention.simd.cpp.

#include "kernels/cpu/vector.h"

namespace cadre::cpu::CADRE_ISA {

inline constexpr int64_t kLanes = 2 * kWidth;  // of a panel

// 16 accumulators want 32 registers; 12 fit in 16.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kTileRows = 8;
#else
inline constexpr int kTileRows = 6;
#endif

// The left operand A[i][k] of a product: element i * row + k * depth, one of the strides being 1.
struct Left {
  const float* data;
  int64_t stride;
};

// What the accumulators start from.
enum class Start { kZero, kOutput, kScaledOutput };

// out[i][lane] = start + sum over k of A[i][k] b[k][lane], k ascending; kDepthContiguous: A[i][k] at i * stride + k,
// else at k * stride + i. `scale`: a factor for each lane.
template <int kRows, int kVecs, bool kDepthContiguous>
CADRE_INLINE void tile(Left a, int64_t depth, const float* b, int64_t b_stride, float* out, int64_t out_stride,
                       Start start, const Vec* scale) {
  Vec sums[kRows][kVecs];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVecs; ++v) {
      sums[i][v] = start == Start::kZero ? zero() : load(out + i * out_stride + v * kWidth);
      if (start == Start::kScaledOutput) sums[i][v] *= scale[v];
    }
  }
  const float* rows[kRows];
  for (int i = 0; i < kRows; ++i) rows[i] = a.data + (kDepthContiguous ? i * a.stride : i);
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    Vec right[kVecs];
    for (int v = 0; v < kVecs; ++v) right[v] = load(b + k * b_stride + v * kWidth);
    for (int i = 0; i < kRows; ++i) {
      const Vec left = splat(kDepthContiguous ? rows[i][k] : rows[0][k * a.stride + i]);
      for (int v = 0; v < kVecs; ++v) sums[i][v] = fma(left, right[v], sums[i][v]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVecs; ++v) store(out + i * out_stride + v * kWidth, sums[i][v]);
  }
}

template <int kRows, int kVecs, bool kDepthContiguous>
void rest(int64_t rows, Left a, int64_t depth, const float* b, int64_t b_stride, float* out, int64_t out_stride,
          Start start, const Vec* scale) {
  if (rows == kRows) {
    tile<kRows, kVecs, kDepthContiguous>(a, depth, b, b_stride, out, out_stride, start, scale);
  } else if constexpr (kRows > 1) {
    rest<kRows - 1, kVecs, kDepthContiguous>(rows, a, depth, b, b_stride, out, out_stride, start, scale);
  }
}

// `tile` for any number of rows.
template <int kVecs, bool kDepthContiguous>
void product(int64_t rows, Left a, int64_t depth, const float* b, int64_t b_stride, float* out, int64_t out_stride,
             Start start, const Vec* scale = nullptr) {
  const int64_t step = kDepthContiguous ? a.stride : 1;
  int64_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows) {
    tile<kTileRows, kVecs, kDepthContiguous>({a.data + i * step, a.stride}, depth, b, b_stride, out + i * out_stride,
                                             out_stride, start, scale);
  }
  if (i < rows) {
    rest<kTileRows - 1, kVecs, kDepthContiguous>(rows - i, {a.data + i * step, a.stride}, depth, b, b_stride,
                                                 out + i * out_stride, out_stride, start, scale);
  }
}

// Lanes of a and b by turns: a0 b0 a1 b1 ... from the lower and from the upper halves.
#if defined(__AVX512F__)
CADRE_INLINE Vec zip_low(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
CADRE_INLINE Vec zip_high(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
CADRE_INLINE Vec zip_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
CADRE_INLINE Vec zip_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
CADRE_INLINE Vec zip_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
CADRE_INLINE Vec zip_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// A square of kWidth vectors, in place: log2(kWidth) rounds of zipping the first half with the second.
CADRE_INLINE void transpose(Vec (&square)[kWidth]) {
#pragma GCC unroll 4
  for (int64_t round = 1; round < kWidth; round *= 2) {
    Vec zipped[kWidth];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kWidth / 2; ++i) {
      zipped[2 * i] = zip_low(square[i], square[i + kWidth / 2]);
      zipped[2 * i + 1] = zip_high(square[i], square[i + kWidth / 2]);
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < kWidth; ++i) square[i] = zipped[i];
  }
}

CADRE_INLINE Vec load_up_to(const float* p, int64_t count) {
  return count >= kWidth ? load(p) : load_partial(p, count);
}
CADRE_INLINE void store_up_to(float* p, Vec x, int64_t count) {
  if (count >= kWidth) {
    store(p, x);
  } else {
    store_partial(p, x, count);
  }
}

// A square of rows, transposed: kFull when it lies within `lanes` and `width`, else the rest is taken as 0.
template <bool kFull>
CADRE_INLINE void square_to_panel(const float* const* rows, int64_t lanes, int64_t d, int64_t width, float factor,
                                  float* panel) {
  Vec square[kWidth];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kWidth; ++i) {
    square[i] = kFull ? load(rows[i] + d) : i < lanes ? load_up_to(rows[i] + d, width) : zero();
  }
  transpose(square);
#pragma GCC unroll 16
  for (int64_t i = 0; i < kWidth; ++i) {
    if (kFull || i < width) store(panel + (d + i) * kLanes, square[i] * factor);
  }
}

template <bool kFull>
CADRE_INLINE void square_from_panel(const float* panel, Vec factor, int64_t lanes, int64_t d, int64_t width,
                                    float* const* rows) {
  Vec square[kWidth];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kWidth; ++i) {
    square[i] = kFull || i < width ? load(panel + (d + i) * kLanes) * factor : zero();
  }
  transpose(square);
#pragma GCC unroll 16
  for (int64_t i = 0; i < kWidth; ++i) {
    if (kFull) {
      store(rows[i] + d, square[i]);
    } else if (i < lanes) {
      store_up_to(rows[i] + d, square[i], width);
    }
  }
}

// panel[d][lane] = factor * rows[lane][d] for lanes of `vecs` vectors; lanes from `count` on get 0.
inline void transpose_to_panel(const float* const* rows, int64_t count, int64_t vecs, int64_t head_dim, float factor,
                               float* panel) {
  for (int64_t lane = 0; lane < vecs * kWidth; lane += kWidth) {
    for (int64_t d = 0; d < head_dim; d += kWidth) {
      if (lane + kWidth <= count && d + kWidth <= head_dim) {
        square_to_panel<true>(rows + lane, kWidth, d, kWidth, factor, panel + lane);
      } else {
        square_to_panel<false>(rows + lane, count - lane, d, head_dim - d, factor, panel + lane);
      }
    }
  }
}

// rows[lane][d] = factors[lane] * panel[d][lane] for the first `count` lanes.
inline void transpose_from_panel(const float* panel, const Vec* factors, int64_t count, int64_t head_dim,
                                 float* const* rows) {
  for (int64_t lane = 0; lane < count; lane += kWidth) {
    const Vec factor = factors[lane / kWidth];
    for (int64_t d = 0; d < head_dim; d += kWidth) {
      if (lane + kWidth <= count && d + kWidth <= head_dim) {
        square_from_panel<true>(panel + lane, factor, kWidth, d, kWidth, rows + lane);
      } else {
        square_from_panel<false>(panel + lane, factor, count - lane, d, head_dim - d, rows + lane);
      }
    }
  }
}

}  // namespace cadre::cpu::CADRE_ISA
