#pragma once
// Choices in double; the contracts stand in kernels/choice.h.

#include "kernels/choice.h"

namespace cadre::reference {

void choose_experts(TensorView probs, TensorView bias, const kernels::Choice& choice, TensorView ids);
void gate_weights(TensorView probs, TensorView ids, bool renormalise, double scale, TensorView weights);
void gate_weights_backward(TensorView probs, TensorView ids, bool renormalise, double scale, TensorView dweights,
                           TensorView dprobs, bool accumulate);

}  // namespace cadre::reference
