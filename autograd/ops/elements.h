#pragma once
// Elements of f32 and f64 matrices, for ops over so few of them that the type is asked for each time.

#include "core/tensor.h"

namespace cadre::autograd {

inline double read_element(const TensorView& view, int64_t row, int64_t column) {
  const int64_t at = row * view.row_stride + column;
  return view.dtype == Dtype::kF64 ? view.as<double>()[at] : static_cast<double>(view.as<float>()[at]);
}

inline void write_element(const TensorView& view, int64_t row, int64_t column, double value) {
  const int64_t at = row * view.row_stride + column;
  if (view.dtype == Dtype::kF64) {
    view.as<double>()[at] = value;
  } else {
    view.as<float>()[at] = static_cast<float>(value);
  }
}

}  // namespace cadre::autograd
