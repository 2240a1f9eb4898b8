#pragma once
// Grouped matrix products: one call multiplies the rows of every expert with that expert's matrix. A plain linear layer
// is one group. Rows are sorted by group; offsets [groups + 1] (i64) says where each group's rows begin.
//
// Each output element is one chain of fused multiply-adds in order of k, so a row's bits depend neither on how many
// rows there are nor on threads. (f64: Eigen; same promise is not made.)

#include <span>

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

// The right operand of a product, one matrix [k, n] for each group.
struct RightOperand {
  TensorView values;    // packed: [packed_elements], 64-byte aligned; otherwise the matrices themselves
  bool packed = false;  // panels [n / width][k][width] per group, zero padded
  int64_t groups = 0;
  int64_t k = 0;  // contraction length
  int64_t n = 0;  // columns of the product

  // Groups [first, first + count).
  RightOperand slice(int64_t first, int64_t count) const;
};

// How weights [groups, r, c] or [r, c] enter a product.
enum class Operand {
  kAsStored,    // k = r, n = c: input gradient, dx = dy W
  kTransposed,  // k = c, n = r: forward, y = x W^T
};

// Weights as they stand (kAsStored). Nothing is copied; a product packs what it needs in passing, which pays for
// weights that are used once: the same bits, a little slower than packed.
RightOperand as_stored(TensorView weights);

// Weights rearranged in `storage` ([packed_elements]). Valid until the weights change.
RightOperand pack(const Exec& exec, TensorView weights, Operand operand, TensorView storage);
int64_t packed_elements(const Exec& exec, TensorView weights, Operand operand);

// One of the products that share a threaded run: out[row, n] (+)= a[row, k] B[group of row]. a and out may be strided.
// `offsets` i64 [groups + 1] need not begin at row 0: rows before offsets[0], and at or past offsets[groups], are left
// alone. Empty: one group with all rows.
struct GemmPart {
  TensorView a;
  TensorView offsets;
  RightOperand b;
  TensorView out;
  Write write = Write::kOverwrite;
};

// Products that may differ in k and n, as of experts of different sizes; threads share their work by its cost over all
// of them. Nothing may be written by one and touched by another.
void grouped_gemm(const Exec& exec, std::span<const GemmPart> parts);
void grouped_gemm(const Exec& exec, TensorView a, TensorView offsets, const RightOperand& b, TensorView out,
                  Write write);

// dw[group] (+)= dy_group^T x_group: dy [rows, r], x [rows, c], dw [groups, r, c]; sums run over rows in ascending
// order. A group without rows gets zeros (or is left alone when accumulating). `offsets` as above.
struct WeightGradientPart {
  TensorView dy;
  TensorView x;
  TensorView offsets;
  TensorView dw;
  Write write = Write::kOverwrite;
};

void grouped_weight_gradient(const Exec& exec, std::span<const WeightGradientPart> parts);
void grouped_weight_gradient(const Exec& exec, TensorView dy, TensorView x, TensorView offsets, TensorView dw,
                             Write write);

}  // namespace cadre::kernels
