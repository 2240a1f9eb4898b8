#pragma once
// Router scores in double; the contracts stand in kernels/router.h.

#include "core/tensor.h"

namespace cadre::reference {

void router_softmax(TensorView logits, TensorView mask, TensorView probs, TensorView lse);
void router_softmax_backward(TensorView probs, TensorView dprobs, TensorView dlse, TensorView dlogits);
void router_sigmoid(TensorView logits, TensorView mask, TensorView probs, TensorView lse);
void router_sigmoid_backward(TensorView logits, TensorView mask, TensorView probs, TensorView lse, TensorView dprobs,
                             TensorView dlse, TensorView dlogits);
void scope_sums(TensorView values, TensorView sums);
void scope_sums_backward(TensorView dsums, TensorView dvalues, bool accumulate);
void score_totals(TensorView scores, TensorView totals);

}  // namespace cadre::reference
