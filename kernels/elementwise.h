#pragma once
// Small things over whole tensors; shapes must match, rows may be strided.

#include <initializer_list>
#include <string_view>

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

// Checks that every family makes. `op` names the kernel in the message, `operands` give their shapes and types;
// default views are left out.
//
// Throws InternalError when `holds` is false.
void require(bool holds, std::string_view op, std::initializer_list<TensorView> operands);
// True when all operands are f64 (reference kernels), false when all are f32; throws InternalError otherwise.
bool wants_reference(std::string_view op, std::initializer_list<TensorView> operands);

void fill(const Exec& exec, TensorView x, double value);      // f64, f32, i64, i32
void copy(const Exec& exec, TensorView from, TensorView to);  // any type to itself; converts between f64 and f32
void add(const Exec& exec, TensorView a, TensorView b, TensorView out);
void accumulate(const Exec& exec, TensorView x, TensorView into);  // into += x
void scale(const Exec& exec, double factor, TensorView x);         // x *= factor
// Sum of x in f64: blocks of 4096 elements in order, block sums in a binary tree; the same bits for any thread count.
double sum(const Exec& exec, TensorView x);
// Dot products of rows: out[t] = <a[t], b[t]>; a, b [tokens, h], out [tokens, 1].
void row_dot(const Exec& exec, TensorView a, TensorView b, TensorView out);

}  // namespace cadre::kernels
