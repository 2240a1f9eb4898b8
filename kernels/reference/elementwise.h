#pragma once
// Elementwise kernels in double; the contracts stand in kernels/elementwise.h.

#include "core/tensor.h"

namespace cadre::reference {

// The first element of a row of an f64 view.
inline double* row(const TensorView& view, int64_t index) { return view.as<double>() + index * view.row_stride; }

void add(TensorView a, TensorView b, TensorView out);
void scale(double factor, TensorView x);
double sum(TensorView x);
void row_dot(TensorView a, TensorView b, TensorView out);

}  // namespace cadre::reference
