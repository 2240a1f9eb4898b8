#include "kernels/cpu/gemm_parts.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

template <int... kLane>
struct Lanes {};
#if defined(__AVX512F__)
using AllLanes = Lanes<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>;
#elif defined(__AVX2__)
using AllLanes = Lanes<0, 1, 2, 3, 4, 5, 6, 7>;
#else
using AllLanes = Lanes<0, 1, 2, 3>;
#endif

// Exchanges the off-diagonal blocks of kDistance lanes between two rows that lie kDistance apart.
template <int kDistance, int... kLane>
CADRE_INLINE void exchange(Vec& upper, Vec& lower, Lanes<kLane...>) {
  constexpr int kLower = static_cast<int>(kWidth);  // lanes of the second operand start here
  const Vec new_upper =
      __builtin_shufflevector(upper, lower, ((kLane & kDistance) ? kLower + kLane - kDistance : kLane)...);
  const Vec new_lower =
      __builtin_shufflevector(upper, lower, ((kLane & kDistance) ? kLower + kLane : kLane + kDistance)...);
  upper = new_upper;
  lower = new_lower;
}

// Transposes a square in registers: swap the off-diagonal quarters, then those of each quarter, and so on.
template <int kDistance>
CADRE_INLINE void transpose(Vec (&rows)[kWidth]) {
  if constexpr (kDistance > 0) {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) {
      if ((i & kDistance) == 0) exchange<kDistance>(rows[i], rows[i + kDistance], AllLanes{});
    }
    transpose<kDistance / 2>(rows);
  }
}

// Rows [row, row + kWidth) of the source become one vector of each of `columns` panel lines from `column`.
template <bool kWhole>
CADRE_INLINE void pack_square(const PackArguments& arguments, int64_t row, int64_t column, float* line) {
  const int64_t columns = arguments.columns - column;
  Vec square[kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) {
    const float* source = arguments.source + (row + i) * arguments.source_stride + column;
    if constexpr (kWhole) {
      square[i] = load(source);
    } else {
      square[i] = row + i < arguments.rows ? load_partial(source, columns < kWidth ? columns : kWidth) : zero();
    }
  }
  transpose<static_cast<int>(kWidth / 2)>(square);
#pragma GCC unroll 16
  for (int p = 0; p < kWidth; ++p) {
    if (kWhole || p < columns) store(line + p * kPanelWidth, square[p]);
  }
}

}  // namespace

void pack_transposed(const PackArguments& arguments) {
  const int64_t k = arguments.columns;
  for (int64_t panel = arguments.begin; panel < arguments.end; ++panel) {
    float* lines = arguments.panels + panel * k * kPanelWidth;
    const int64_t row = panel * kPanelWidth;
    for (int64_t column = 0; column < k; column += kWidth) {
      for (int64_t half = 0; half < 2; ++half) {
        float* line = lines + column * kPanelWidth + half * kWidth;
        const int64_t top = row + half * kWidth;
        if (top + kWidth <= arguments.rows && column + kWidth <= k) {
          pack_square<true>(arguments, top, column, line);
        } else {
          pack_square<false>(arguments, top, column, line);
        }
      }
    }
  }
}

void pack_as_stored(const PackArguments& arguments) {
  const int64_t n = arguments.columns;
  const int64_t panel_elements = arguments.rows * kPanelWidth;
  for (int64_t row = arguments.begin; row < arguments.end; ++row) {
    const float* source = arguments.source + row * arguments.source_stride;
    float* line = arguments.panels + row * kPanelWidth;
    int64_t column = 0;
    for (; column + kPanelWidth <= n; column += kPanelWidth, line += panel_elements) {
      store(line, load(source + column));
      store(line + kWidth, load(source + column + kWidth));
    }
    if (column < n) {
      const int64_t rest = n - column;
      store(line, load_partial(source + column, rest < kWidth ? rest : kWidth));
      store(line + kWidth, rest > kWidth ? load_partial(source + column + kWidth, rest - kWidth) : zero());
    }
  }
}

}  // namespace cadre::cpu::CADRE_ISA
