#pragma once
// RMSNorm in double; the contracts stand in kernels/norm.h.

#include "core/tensor.h"

namespace cadre::reference {

// `branch` and `sum` without data: no residual add.
void rms_norm_forward(TensorView x, TensorView branch, TensorView weight, double eps, TensorView sum, TensorView y,
                      TensorView rstd);
void rms_norm_backward(TensorView x, TensorView weight, TensorView rstd, TensorView dy, TensorView dx, bool accumulate);
void rms_norm_weight_gradient(TensorView x, TensorView rstd, TensorView dy, TensorView dweight, bool accumulate);

}  // namespace cadre::reference
