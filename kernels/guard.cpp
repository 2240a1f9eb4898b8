#include "kernels/guard.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/elementwise.h"

namespace cadre::kernels {
namespace {

constexpr int64_t kGrain = 8192;

int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols)); }

// By the bits, since a comparison of numbers would not be vectorised: all ones in the exponent.
bool all_finite(const float* x, int64_t count) {
  uint32_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    constexpr uint32_t kExponent = 0x7f800000u;
    found |= static_cast<uint32_t>((std::bit_cast<uint32_t>(x[i]) & kExponent) == kExponent);
  }
  return found == 0;
}

bool all_finite(const double* x, int64_t count) {
  return std::all_of(x, x + count, [](double value) { return value - value == 0; });
}

int64_t expert_of(const int64_t* offsets, int64_t experts, int64_t row) {
  return std::upper_bound(offsets, offsets + experts + 1, row) - offsets - 1;
}

template <class T>
void zero_rows(const Exec& exec, const int64_t* offsets, int64_t experts, const int32_t* guarded, TensorView rows,
               int32_t* flags) {
  parallel_for(exec.threads, offsets[experts], row_grain(rows.cols()), [&](int64_t begin, int64_t end) {
    int64_t expert = begin < end ? expert_of(offsets, experts, begin) : 0;
    for (int64_t r = begin; r < end; ++r) {
      while (r >= offsets[expert + 1]) ++expert;
      T* const row = rows.as<T>() + r * rows.row_stride;
      flags[r] = guarded[expert] == 0 || all_finite(row, rows.cols()) ? 0 : 1;
      if (flags[r] != 0) std::fill_n(row, rows.cols(), T{0});
    }
  });
}

template <class T>
void scale_rows(const Exec& exec, const int64_t* offsets, int64_t experts, const double* factors, const int32_t* flags,
                TensorView rows) {
  parallel_for(exec.threads, offsets[experts], row_grain(rows.cols()), [&](int64_t begin, int64_t end) {
    int64_t expert = begin < end ? expert_of(offsets, experts, begin) : 0;
    for (int64_t r = begin; r < end; ++r) {
      while (r >= offsets[expert + 1]) ++expert;
      T* const row = rows.as<T>() + r * rows.row_stride;
      const T factor = static_cast<T>(flags != nullptr && flags[r] != 0 ? 0 : factors[expert]);
      if (factor == 0) {
        std::fill_n(row, rows.cols(), T{0});
      } else if (factor != 1) {
        for (int64_t i = 0; i < rows.cols(); ++i) row[i] *= factor;
      }
    }
  });
}

}  // namespace

void zero_non_finite_rows(const Exec& exec, TensorView offsets, TensorView guarded, TensorView rows, TensorView flags,
                          TensorView counts) {
  const char* op = "zero_non_finite_rows";
  const int64_t experts = counts.shape.elements();
  require(offsets.shape.elements() == experts + 1 && guarded.shape.elements() == experts &&
              flags.shape.elements() == rows.rows(),
          op, {offsets, guarded, rows, flags, counts});
  if (exec.dry) return;
  const int64_t* const offset = offsets.as<int64_t>();
  int32_t* const flag = flags.as<int32_t>();
  const int32_t* const guard = guarded.as<int32_t>();
  wants_reference(op, {rows}) ? zero_rows<double>(exec, offset, experts, guard, rows, flag)
                              : zero_rows<float>(exec, offset, experts, guard, rows, flag);
  for (int64_t e = 0; e < experts; ++e) {
    counts.as<int64_t>()[e] = std::count(flag + offset[e], flag + offset[e + 1], 1);
  }
}

void scale_expert_rows(const Exec& exec, TensorView offsets, TensorView factors, TensorView flags, TensorView rows) {
  const char* op = "scale_expert_rows";
  const int64_t experts = factors.shape.elements();
  require(offsets.shape.elements() == experts + 1 && factors.dtype == Dtype::kF64 &&
              (!flags || flags.shape.elements() == rows.rows()),
          op, {offsets, factors, flags, rows});
  if (exec.dry) return;
  const int64_t* const offset = offsets.as<int64_t>();
  const int32_t* const flag = flags ? flags.as<int32_t>() : nullptr;
  const double* const factor = factors.as<double>();
  wants_reference(op, {rows}) ? scale_rows<double>(exec, offset, experts, factor, flag, rows)
                              : scale_rows<float>(exec, offset, experts, factor, flag, rows);
}

}  // namespace cadre::kernels
