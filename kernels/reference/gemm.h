#pragma once
// Matrix products in double, by Eigen; contracts as in kernels/gemm.h. Packed storage holds [groups][k][n].

#include "kernels/gemm.h"

namespace cadre::reference {

void pack(TensorView weights, kernels::Operand operand, const kernels::RightOperand& packed);
void grouped_gemm(TensorView a, const int64_t* offsets, const kernels::RightOperand& b, TensorView out,
                  kernels::Write write);
void grouped_weight_gradient(TensorView dy, TensorView x, const int64_t* offsets, int64_t groups, TensorView dw,
                             kernels::Write write);

}  // namespace cadre::reference
