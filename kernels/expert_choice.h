#pragma once
// Experts choose tokens, instead of tokens experts (Zhou et al., "Mixture-of-experts with expert choice routing",
// 2022).
//
// ids i32 [tokens, experts]: e where expert e has the token, else -1. A key is a score plus the expert's `bias` (f64
// [experts], or empty); tokens whose key is -infinity or NaN are not chosen.

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

// Each expert takes `each` tokens, those of the highest keys; ties go to the lower token. probs [tokens, experts].
void choose_tokens(const Exec& exec, TensorView probs, TensorView bias, int64_t each, TensorView ids);
// Each expert takes the tokens whose key is at or above its threshold, f64 [experts].
void choose_tokens_above(const Exec& exec, TensorView probs, TensorView bias, TensorView thresholds, TensorView ids);
// lowest f64 [experts]: the lowest key among an expert's tokens; infinity where it has none.
void lowest_keys(const Exec& exec, TensorView probs, TensorView bias, TensorView ids, TensorView lowest);

}  // namespace cadre::kernels
