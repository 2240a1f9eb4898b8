#pragma once
// What the .simd.cpp files of the matrix products know of each other.

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_tile.h"

namespace cadre::cpu::CADRE_ISA {

void pack_as_stored(const PackArguments& arguments);
void pack_transposed(const PackArguments& arguments);
void weight_gradient(const WeightGradientArguments& arguments);

// One panel of a matrix [rows, ...] from its column 0, fewer than kPanelWidth columns filled up with zeros.
inline void pack_narrow_panel(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to) {
  const int64_t first = columns < kWidth ? columns : kWidth;
  for (int64_t p = 0; p < rows; ++p, from += stride, to += kPanelWidth) {
    store(to, load_partial(from, first));
    store(to + kWidth, columns > kWidth ? load_partial(from + kWidth, columns - kWidth) : zero());
  }
}

// The weight gradient contracts over rows in passes of at most kGradientRows. A packed tile of dy and one panel of x
// fit the L1 cache, a chunk of panels half of the L2 cache.
inline constexpr int64_t kGradientRows = 256;
inline constexpr int64_t kChunkFloats = 128 * 1024;
// Each panel is followed by one vector, lest equal lines of all of them fall into one cache set.
inline constexpr int64_t kGap = 16;
inline constexpr int64_t kPanelScratch = kChunkFloats + kGap * (kChunkFloats / kPanelWidth);
inline constexpr int64_t kWeightGradientScratch = kPanelScratch + kGradientRows * kColumnStride;

}  // namespace cadre::cpu::CADRE_ISA
