#pragma once
// Rotary embedding and QK-norm in f64, head by head. Arguments as in kernels/attention.h.

#include "kernels/attention.h"

namespace cadre::reference {

void rotary_forward(const kernels::RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                    TensorView q_weight, TensorView k_weight, TensorView out, TensorView rstd);
void rotary_backward(const kernels::RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                     TensorView q_weight, TensorView k_weight, TensorView rstd, TensorView dout, TensorView dqkv);
void rotary_weight_gradient(const kernels::RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                            TensorView rstd, TensorView dout, TensorView dq_weight, TensorView dk_weight,
                            kernels::Write write);

}  // namespace cadre::reference
