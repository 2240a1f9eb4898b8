#pragma once
// Scores that a router gives, and their sums. Logits and everything here are f32 or wider.
//
// `mask`: f64 [experts] or empty; an expert whose entry is -infinity is not there: its score is 0 and has no gradient.
// Other entries say nothing. At least one expert must be there.

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

// logits [tokens, experts] -> probs [tokens, experts], the softmax over all, lse [tokens], its log-sum-exp.
void router_softmax(const Exec& exec, TensorView logits, TensorView mask, TensorView probs, TensorView lse);
// dlogits = probs * (dprobs - <probs, dprobs> + dlse). dprobs [tokens, experts] and dlse [tokens] may be empty.
void router_softmax_backward(const Exec& exec, TensorView probs, TensorView dprobs, TensorView dlse,
                             TensorView dlogits);

// The same with independent scores, probs = 1 / (1 + exp(-logits)) (DeepSeek-V3, 2024, eq. 15); lse as above.
void router_sigmoid(const Exec& exec, TensorView logits, TensorView mask, TensorView probs, TensorView lse);
void router_sigmoid_backward(const Exec& exec, TensorView logits, TensorView mask, TensorView probs, TensorView lse,
                             TensorView dprobs, TensorView dlse, TensorView dlogits);

// sums [scopes, experts] = sums of `values` [tokens, experts] over the tokens of each scope, in token order; scopes are
// equal runs of tokens.
void scope_sums(const Exec& exec, TensorView values, TensorView sums);
// dvalues[t] (+)= dsums[scope of t].
void scope_sums_backward(const Exec& exec, TensorView dsums, TensorView dvalues, Write write);

// totals f64 [experts + 1]: for each expert the sum over tokens of its share of a token's scores [tokens, experts],
// which are not negative; then the sum over tokens of the entropy of these shares, in nats. A token without scores
// counts nowhere. Sums run over blocks of tokens that do not depend on threads.
void score_totals(const Exec& exec, TensorView scores, TensorView totals);

}  // namespace cadre::kernels
