#pragma once
// Softmax top-k routing. Logits and everything here are f32 or wider.

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

// Logits [tokens, experts] -> probs [tokens, experts] (softmax over all), lse [tokens] (log-sum-exp of the logits),
// ids i32 [tokens, k] (descending probability; ties go to the lower id), weights [tokens, k]: the chosen probabilities,
// divided by their sum when `renormalise`. `replay`: i32 [tokens, k] ids to use instead of choosing (recorded routing),
// or empty.
void router_forward(const Exec& exec, TensorView logits, bool renormalise, TensorView replay, TensorView probs,
                    TensorView lse, TensorView ids, TensorView weights);

// dlogits = through weights (dweights [tokens, k]), plus auxiliary losses that act on all experts:
//   balance [scopes, experts]: d(loss)/d(prob) of every token of a scope; tokens are split evenly over scopes; or empty
//   z_scale: d(loss)/d(logits) += z_scale * 2 * lse * prob   (z-loss, Zoph et al., ST-MoE, 2022)
void router_backward(const Exec& exec, TensorView probs, TensorView lse, TensorView ids, TensorView weights,
                     bool renormalise, TensorView dweights, TensorView balance, double z_scale, TensorView dlogits);

// Per scope and expert: counts i64 [scopes, experts] of choices, prob_sums [scopes, experts] of probabilities (summed
// in token order), and lse_squared [1], the sum of lse^2.
void router_statistics(const Exec& exec, TensorView probs, TensorView lse, TensorView ids, TensorView counts,
                       TensorView prob_sums, TensorView lse_squared);

}  // namespace cadre::kernels
