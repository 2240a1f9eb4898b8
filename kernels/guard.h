#pragma once
// What keeps the rows of one expert from spoiling others. Rows [n, h] stand in expert order, offsets i64 [experts + 1];
// rows past the last offset are left alone.

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

// Rows of guarded experts, i32 [experts], that hold a value that is not finite become 0; flags i32 [n] tells which, and
// counts i64 [experts] how many of each expert's.
void zero_non_finite_rows(const Exec& exec, TensorView offsets, TensorView guarded, TensorView rows, TensorView flags,
                          TensorView counts);
// rows *= the factor of their expert, f64 [experts]; flagged rows, and those of a factor 0, become 0. `flags` may be
// empty.
void scale_expert_rows(const Exec& exec, TensorView offsets, TensorView factors, TensorView flags, TensorView rows);

}  // namespace cadre::kernels
