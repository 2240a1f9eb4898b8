#pragma once
// Tokens to experts and back. A slot is one choice of one token: slot = token * k + choice. A row is one slot's place
// in expert order; rows of an expert stand in token order (stable), so results do not depend on threads.

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

enum class DropPolicy { kByScore, kByPosition };

// Of which a plan is a part. Ids from the plan's number of experts on have no row.
struct PlanWhole {
  int64_t experts = -1;  // ids are below; -1: as many as are planned
  int64_t choices = -1;  // what a dry run spreads evenly over these; -1: all slots
};

// ids i32 [tokens, k], -1 for none -> offsets i64 [experts + 1], row_of_slot i32 [tokens * k] (-1: dropped, or none),
// slot_of_row i32 [tokens * k], or as long as there are rows (only the first offsets[experts] are written). capacity:
// most rows an expert keeps, or -1 for all; kByPosition keeps the first in token order, kByScore the largest weights
// [tokens, k] (ties: first token).
void plan_rows(const Exec& exec, TensorView ids, TensorView weights, int64_t experts, int64_t capacity,
               DropPolicy policy, TensorView offsets, TensorView row_of_slot, TensorView slot_of_row,
               PlanWhole whole = {});

// out[row] = x[slot_of_row[row] / k] for rows < offsets[experts] (last element of offsets). x [tokens, h], out [rows,
// h].
void gather_rows(const Exec& exec, TensorView x, TensorView slot_of_row, TensorView offsets, int64_t k, TensorView out);
// dx[token] (+)= sum over its k slots of dout[row_of_slot]; dropped slots add nothing.
void gather_rows_backward(const Exec& exec, TensorView dout, TensorView row_of_slot, int64_t k, TensorView dx,
                          Write write);

// out[token] (+)= sum over k of weights[token, k] * y[row_of_slot]; in order of k.
void combine_rows(const Exec& exec, TensorView y, TensorView row_of_slot, TensorView weights, TensorView out,
                  Write write);
// dy[row] = weights[slot] * dout[token]; dweights[token, k] = <dout[token], y[row]> (0 when dropped).
void combine_rows_backward(const Exec& exec, TensorView y, TensorView row_of_slot, TensorView weights, TensorView dout,
                           TensorView dy, TensorView dweights);

}  // namespace cadre::kernels
