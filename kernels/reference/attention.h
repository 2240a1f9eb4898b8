#pragma once
// Attention in f64, row by row, with the softmax written out: the truth that fast kernels are tested against. Arguments
// as in kernels/attention.h.

#include "kernels/attention.h"

namespace cadre::reference {

void attention_forward(const kernels::AttentionShape& shape, TensorView q, TensorView k, TensorView v,
                       TensorView segment_start, TensorView out, TensorView lse);
void attention_backward(const kernels::AttentionShape& shape, TensorView q, TensorView k, TensorView v,
                        TensorView segment_start, TensorView out, TensorView lse, TensorView dout, TensorView dq,
                        TensorView dk, TensorView dv);

}  // namespace cadre::reference
