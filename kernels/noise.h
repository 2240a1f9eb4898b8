#pragma once
// Random factors and terms for the rows of a matrix. What a row draws is a function of its place in the global batch,
// never of the rank or the batch that it is computed in.

#include <cstdint>

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

struct RowDraws {
  uint64_t seed = 0;
  uint64_t stream = 0;    // tells apart e.g. steps and layers
  int64_t first_row = 0;  // the place of row 0
};

// out = x * u, u uniform in [1 - epsilon, 1 + epsilon) for each element; out may be x.
void jitter(const Exec& exec, TensorView x, double epsilon, const RowDraws& draws, TensorView out);
// Standard normal draws.
void fill_normal(const Exec& exec, const RowDraws& draws, TensorView out);

}  // namespace cadre::kernels
