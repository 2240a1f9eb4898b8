#pragma once
// Softmax cross-entropy without materialised probabilities. logits [tokens, vocabulary], targets i32 [tokens]; a
// negative target is ignored (loss 0, gradient 0).

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

// losses [tokens] in nats, lse [tokens]. A padded vocabulary is left out with logits.columns(0, vocabulary).
// Throws InternalError for a target past the vocabulary.
void cross_entropy_forward(const Exec& exec, TensorView logits, TensorView targets, TensorView losses, TensorView lse);
// dlogits = dlosses[token] * (softmax - onehot); may alias logits.
void cross_entropy_backward(const Exec& exec, TensorView logits, TensorView targets, TensorView lse, TensorView dlosses,
                            TensorView dlogits);

}  // namespace cadre::kernels
