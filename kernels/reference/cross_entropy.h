#pragma once
// Softmax cross-entropy in double; the contracts stand in kernels/cross_entropy.h.

#include "core/tensor.h"

namespace cadre::reference {

void cross_entropy_forward(TensorView logits, TensorView targets, TensorView losses, TensorView lse);
void cross_entropy_backward(TensorView logits, TensorView targets, TensorView lse, TensorView dlosses,
                            TensorView dlogits);

}  // namespace cadre::reference
