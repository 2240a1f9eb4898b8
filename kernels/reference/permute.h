#pragma once
// Permutation in double; the contracts stand in kernels/permute.h.

#include "core/tensor.h"
#include "kernels/permute.h"

namespace cadre::reference {

// weights f64, or without data (capacity -1, or by position).
void plan_rows(TensorView ids, TensorView weights, int64_t experts, int64_t capacity, kernels::DropPolicy policy,
               TensorView offsets, TensorView row_of_slot, TensorView slot_of_row);
void gather_rows(TensorView x, TensorView slot_of_row, int64_t rows, int64_t k, TensorView out);
// `weights` without data: 1.
void combine_rows(TensorView y, TensorView row_of_slot, TensorView weights, int64_t k, TensorView out, bool accumulate);
void combine_rows_backward(TensorView y, TensorView row_of_slot, TensorView weights, TensorView dout, TensorView dy,
                           TensorView dweights);

}  // namespace cadre::reference
