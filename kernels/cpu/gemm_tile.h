#pragma once
// The inner tile of every f32 product: up to kTileRows rows x two vectors of accumulators held in registers, one pass
// over the contraction. Operands stand packed or are read from where they lie; those that are read once and needed
// again are packed in passing, by stores that hide behind the arithmetic.

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

// A of the product: rows, a[i * stride + p] (the forward), or columns, a[p * stride + i] (the weight gradient), which
// lie packed with stride kColumnStride, or in a matrix from which they are packed in passing.
enum class Left { kRows, kColumns, kPackColumns };
// B of the product, lines of kPanelWidth: packed, in the cache; the same, while a part of the next panel is fetched;
// packed, streamed from afar; or in a matrix, packed in passing.
enum class Right { kPanel, kPanelAndNext, kFarPanel, kPackPanel };

struct Tile {
  const float* a;
  int64_t a_stride;
  const float* b;
  int64_t b_stride;  // of kPackPanel; a panel's is kPanelWidth
  int64_t k;
  float* out;
  int64_t out_stride;
  int64_t columns;  // 1 .. kPanelWidth; kPackPanel: kPanelWidth
  bool accumulate;
  bool stream_out;        // past the caches; rows of `out` begin at multiples of 64 bytes; not with accumulate
  const float* next_b;    // kPanelAndNext: the part of the next panel
  int64_t next_b_step;    // floats of it for each step of k
  const float* next_out;  // of the tile that follows, fetched meanwhile
  float* packed_a;        // kPackColumns: [k][kColumnStride]
  float* packed_b;        // kPackPanel: [k][kPanelWidth]
};

// How far ahead the streamed operand is fetched, in floats: 64 steps of 8 cycles outlast a memory access.
inline constexpr int64_t kPrefetchAhead = 2048;
// How many steps ahead the rows of a matrix are fetched.
inline constexpr int64_t kRowsAhead = 24;

// Fetches the kPanelWidth floats that a step reads, for reading (0) or writing (1).
template <int kWrite, int kLocality>
CADRE_INLINE void prefetch_line(const float* line) {
  __builtin_prefetch(line, kWrite, kLocality);
  if constexpr (kPanelWidth * 4 > 64) __builtin_prefetch(line + kWidth, kWrite, kLocality);
}

template <int kRows>
CADRE_INLINE void pack_columns(const float* from, float* to) {
#pragma GCC unroll 4
  for (int64_t lane = 0; lane < kRows; lane += kWidth) {
    const int64_t rest = kRows - lane;
    store(to + lane, rest >= kWidth ? load(from + lane) : load_partial(from + lane, rest));
  }
}

template <int kRows, Left kLeft, Right kRight>
CADRE_INLINE void multiply_chain(const Tile& tile, Vec (&sums)[kRows][2]) {
  // A base register for each three rows: x86 addressing reaches strides of 0, 1 and 2.
  constexpr int kBases = kLeft == Left::kRows ? (kRows + 2) / 3 : 1;
  const float* bases[kBases];
  for (int i = 0; i < kBases; ++i) bases[i] = tile.a + i * 3 * tile.a_stride;
  const int64_t stride = tile.a_stride;
  const int64_t step = kLeft == Left::kRows ? 1 : kLeft == Left::kColumns ? kColumnStride : stride;
  const int64_t b_stride = kRight == Right::kPackPanel ? tile.b_stride : kPanelWidth;
  const float* b = tile.b;
  for (int64_t p = 0; p < tile.k; ++p) {
    const Vec b0 = load(b);
    const Vec b1 = load(b + kWidth);
    if constexpr (kRight == Right::kPanelAndNext) __builtin_prefetch(tile.next_b + p * tile.next_b_step, 0, 2);
    if constexpr (kRight == Right::kFarPanel) prefetch_line<0, 2>(b + kPrefetchAhead);
    if constexpr (kRight == Right::kPackPanel) {
      prefetch_line<0, 3>(b + kRowsAhead * b_stride);
      prefetch_line<0, 2>(b + kPanelWidth);
      store(tile.packed_b + p * kPanelWidth, b0);
      store(tile.packed_b + p * kPanelWidth + kWidth, b1);
    }
    if constexpr (kLeft == Left::kPackColumns) {
      __builtin_prefetch(bases[0] + 2 * kRows - 1, 0, 2);
      pack_columns<kRows>(bases[0], tile.packed_a + p * kColumnStride);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const float* element = kLeft == Left::kRows ? bases[i / 3] + (i % 3) * stride : bases[0] + i;
      const Vec a = splat(*element);
      sums[i][0] = fma(a, b0, sums[i][0]);
      sums[i][1] = fma(a, b1, sums[i][1]);
    }
    b += b_stride;
#pragma GCC unroll 8
    for (int i = 0; i < kBases; ++i) bases[i] += step;
  }
}

template <int kRows, Left kLeft, Right kRight>
void multiply_tile(const Tile& tile) {
  Vec sums[kRows][2];
  const bool whole = tile.columns == kPanelWidth;
  const int64_t first = tile.columns < kWidth ? tile.columns : kWidth;
  const int64_t second = tile.columns - first;
  // The chain hides the misses of the outputs that come next. Beside unpacked rows of A they go to the L2 cache only:
  // their rows, too, may lie a power of two apart and would drive each other out of the L1 sets.
  if (!tile.stream_out) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) prefetch_line<1, kLeft == Left::kRows ? 2 : 3>(tile.next_out + i * tile.out_stride);
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
  multiply_chain<kRows, kLeft, kRight>(tile, sums);
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    float* row = tile.out + i * tile.out_stride;
    if (kLeft != Left::kRows && tile.stream_out && whole) {
      store_streaming(row, sums[i][0]);
      store_streaming(row + kWidth, sums[i][1]);
    } else if (whole) {
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
template <Left kLeft, Right kRight, int kRows = kTileRows>
inline TileFunction tile_function(int64_t rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return tile_function<kLeft, kRight, kRows - 1>(rows);
  }
  return multiply_tile<kRows, kLeft, kRight>;
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
