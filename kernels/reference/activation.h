#pragma once
// Activations in double over rows [0, rows); the contracts stand in kernels/activation.h.

#include "core/tensor.h"

namespace cadre::reference {

void swiglu_forward(TensorView h, int64_t rows, TensorView out);
void swiglu_backward(TensorView h, int64_t rows, TensorView dout, TensorView dh);
void gelu_forward(TensorView h, int64_t rows, TensorView out);
void gelu_backward(TensorView h, int64_t rows, TensorView dout, TensorView dh);

}  // namespace cadre::reference
