#pragma once
// Small things over whole tensors; shapes must match, rows may be strided.

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

void fill(const Exec& exec, TensorView x, double value);
void copy(const Exec& exec, TensorView from, TensorView to);  // converts between f64 and f32
void add(const Exec& exec, TensorView a, TensorView b, TensorView out);
void accumulate(const Exec& exec, TensorView x, TensorView into);              // into += x
void scale(const Exec& exec, double factor, TensorView x);                     // x *= factor
// Sum of x in f64: blocks of 4096 elements in order, block sums in a binary tree; the same bits for any thread count.
double sum(const Exec& exec, TensorView x);
// out [tokens, 1] = sigmoid-free dot of rows: out[t] = <a[t], b[t]>.
void row_dot(const Exec& exec, TensorView a, TensorView b, TensorView out);

}  // namespace cadre::kernels
