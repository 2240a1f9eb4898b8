#pragma once
// Routing in double; the contracts stand in kernels/router.h.

#include "core/tensor.h"

namespace cadre::reference {

void router_forward(TensorView logits, bool renormalise, TensorView replay, TensorView probs, TensorView lse,
                    TensorView ids, TensorView weights);
void router_backward(TensorView probs, TensorView lse, TensorView ids, bool renormalise, TensorView dweights,
                     TensorView balance, double z_scale, TensorView dlogits);
void router_statistics(TensorView probs, TensorView lse, TensorView ids, TensorView counts, TensorView prob_sums,
                       TensorView lse_squared);

}  // namespace cadre::reference
