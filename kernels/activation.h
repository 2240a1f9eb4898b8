#pragma once
// Expert and MLP activations, fused over the hidden layer h.
//   kSwiGlu: h [rows, 2 f] = gate | up, out = silu(gate) * up   (Shazeer, "GLU variants improve Transformer", 2020)
//   kGelu:   h [rows, f], out = gelu(h), tanh approximation     (Hendrycks and Gimpel, 2016)
// `rows_end` (i64, one element) bounds the rows that are computed, or is empty: all.

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

enum class Activation { kSwiGlu, kGelu };

void activation_forward(const Exec& exec, Activation kind, TensorView h, TensorView rows_end, TensorView out);
void activation_backward(const Exec& exec, Activation kind, TensorView h, TensorView rows_end, TensorView dout,
                         TensorView dh);

}  // namespace cadre::kernels
