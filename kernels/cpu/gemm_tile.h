#pragma once
// The inner tile of every f32 product: up to kTileRows rows x two vectors of accumulators held in registers, one pass
// over the contraction. B comes as [k][kPanelWidth]; A either as rows (broadcast from a[i * stride + p], the forward)
// or as columns (a[p * kColumnStride + i], packed, the weight gradient).

#include "kernels/cpu/vector.h"

namespace cadre::cpu::CADRE_ISA {

// Accumulators fill the register file but for two vectors of B and one or two broadcasts.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 14;
#elif defined(__AVX2__)
inline constexpr int kTileRows = 6;
#elif defined(__aarch64__)
inline constexpr int kTileRows = 12;
#else
inline constexpr int kTileRows = 4;
#endif
inline constexpr int64_t kPanelWidth = 2 * kWidth;
inline constexpr int64_t kColumnStride = (kTileRows + kWidth - 1) / kWidth * kWidth;

struct Tile {
  const float* a;
  int64_t a_stride;  // unused with packed columns
  const float* b;
  int64_t k;
  float* out;
  int64_t out_stride;
  int64_t columns;  // 1 .. kPanelWidth
  bool accumulate;
};

enum class Layout { kRows, kColumns };

// How far ahead the streamed operand is fetched, in floats: 64 steps of 8 cycles outlast a memory access.
inline constexpr int64_t kPrefetchAhead = 2048;

template <int kRows, Layout kLayout, bool kPrefetch>
CADRE_INLINE void multiply_chain(const Tile& tile, Vec (&sums)[kRows][2]) {
  // A base register for each three rows: x86 addressing reaches strides of 0, 1 and 2.
  constexpr int kBases = kLayout == Layout::kRows ? (kRows + 2) / 3 : 1;
  const float* bases[kBases];
  for (int i = 0; i < kBases; ++i) bases[i] = tile.a + i * 3 * tile.a_stride;
  const int64_t stride = tile.a_stride;
  const float* b = tile.b;
  for (int64_t p = 0; p < tile.k; ++p) {
    const Vec b0 = load(b);
    const Vec b1 = load(b + kWidth);
    if constexpr (kPrefetch) {
      __builtin_prefetch(b + kPrefetchAhead, 0, 2);
      if constexpr (kPanelWidth * 4 > 64) __builtin_prefetch(b + kPrefetchAhead + kWidth, 0, 2);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const float* element = kLayout == Layout::kRows ? bases[i / 3] + (i % 3) * stride : bases[0] + i;
      const Vec a = splat(*element);
      sums[i][0] = fma(a, b0, sums[i][0]);
      sums[i][1] = fma(a, b1, sums[i][1]);
    }
    b += kPanelWidth;
#pragma GCC unroll 8
    for (int i = 0; i < kBases; ++i) bases[i] += kLayout == Layout::kRows ? 1 : kColumnStride;
  }
}

template <int kRows, Layout kLayout, bool kPrefetch>
void multiply_tile(const Tile& tile) {
  Vec sums[kRows][2];
  const bool whole = tile.columns == kPanelWidth;
  const int64_t first = tile.columns < kWidth ? tile.columns : kWidth;
  const int64_t second = tile.columns - first;
  // The chain hides the misses of the stores that end it. Beside unpacked rows of A the output goes to the L2 cache
  // only: its rows, too, may lie a power of two apart and would drive each other out of the L1 sets.
  constexpr int kLocality = kLayout == Layout::kRows ? 2 : 3;
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    const float* row = tile.out + i * tile.out_stride;
    __builtin_prefetch(row, 1, kLocality);
    if constexpr (kPanelWidth * 4 > 64) __builtin_prefetch(row + kWidth, 1, kLocality);
  }
  if (!tile.accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) sums[i][0] = sums[i][1] = zero();
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const float* row = tile.out + i * tile.out_stride;
      sums[i][0] = whole ? load(row) : load_partial(row, first);
      sums[i][1] = whole ? load(row + kWidth) : load_partial(row + kWidth, second);
    }
  }
  multiply_chain<kRows, kLayout, kPrefetch>(tile, sums);
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    float* row = tile.out + i * tile.out_stride;
    if (whole) {
      store(row, sums[i][0]);
      store(row + kWidth, sums[i][1]);
    } else {
      store_partial(row, sums[i][0], first);
      store_partial(row + kWidth, sums[i][1], second);
    }
  }
}

using TileFunction = void (*)(const Tile&);

// The tile of `rows` rows, 1 .. kTileRows.
template <Layout kLayout, bool kPrefetch, int kRows = kTileRows>
inline TileFunction tile_function(int64_t rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return tile_function<kLayout, kPrefetch, kRows - 1>(rows);
  }
  return multiply_tile<kRows, kLayout, kPrefetch>;
}

// Rows cut into the fewest tiles, whose heights differ by at most one: no thin tile at the end.
class TileSplit {
 public:
  explicit TileSplit(int64_t rows)
      : count_((rows + kTileRows - 1) / kTileRows), low_(rows / count_), taller_(rows - low_ * count_) {}
  int64_t count() const { return count_; }
  int64_t begin(int64_t tile) const { return low_ * tile + (tile < taller_ ? tile : taller_); }
  int64_t height(int64_t tile) const { return low_ + (tile < taller_ ? 1 : 0); }
  int64_t low() const { return low_; }

 private:
  int64_t count_;
  int64_t low_;
  int64_t taller_;  // the first tiles, one row taller
};

// The functions for the two heights of a split.
class TilePair {
 public:
  TilePair(TileFunction (*function)(int64_t), const TileSplit& split)
      : low_(split.low()), functions_{function(low_), function(low_ < kTileRows ? low_ + 1 : low_)} {}
  TileFunction of(int64_t height) const { return functions_[height - low_]; }

 private:
  int64_t low_;
  TileFunction functions_[2];
};

}  // namespace cadre::cpu::CADRE_ISA
