#pragma once
// Activations in double over some rows; the contracts stand in kernels/activation.h.

#include "core/runtime/thread_pool.h"
#include "core/tensor.h"

namespace cadre::reference {

void swiglu_forward(TensorView h, Range rows, TensorView out);
void swiglu_backward(TensorView h, Range rows, TensorView dout, TensorView dh);
void gelu_forward(TensorView h, Range rows, TensorView out);
void gelu_backward(TensorView h, Range rows, TensorView dout, TensorView dh);

}  // namespace cadre::reference
