#pragma once
// RMSNorm (Zhang and Sennrich, 2019): y = x / sqrt(mean(x^2) + eps) * weight. x, y [rows, cols], weight [cols],
// rstd [rows] = 1 / sqrt(mean(x^2) + eps), kept for the backward.

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

void rms_norm_forward(const Exec& exec, TensorView x, TensorView weight, double eps, TensorView y, TensorView rstd);
// The residual add that always precedes a norm, in the same pass: sum = x + branch, y = norm(sum). sum may alias x.
void add_rms_norm_forward(const Exec& exec, TensorView x, TensorView branch, TensorView weight, double eps,
                          TensorView sum, TensorView y, TensorView rstd);
void rms_norm_backward(const Exec& exec, TensorView x, TensorView weight, TensorView rstd, TensorView dy, TensorView dx,
                       Write write);
// dweight [cols]; rows are summed in a fixed tree over blocks of rows, whatever the number of threads.
void rms_norm_weight_gradient(const Exec& exec, TensorView x, TensorView rstd, TensorView dy, TensorView dweight,
                              Write write);

}  // namespace cadre::kernels
