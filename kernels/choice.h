#pragma once
// From scores to the experts of each token, and the weights of those.
//
// A token has k places for experts; -1 stands in one that is not used, whose weight is 0.

#include <cstdint>

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

enum class ChoiceKind {
  kTopK,      // the k highest keys
  kTopP,      // of those, as few as have `top_p` of the scores' sum together (Huang et al., 2024); at least one
  kRandom,    // any k
  kBalanced,  // each expert as often as any other, whatever the scores
  kExpert,    // experts choose tokens: expert_choice.h
};
enum class GroupScore { kMax, kTopTwo };  // what a group is chosen by: its highest key, or the sum of its two highest

struct Choice {
  ChoiceKind kind = ChoiceKind::kTopK;
  double top_p = 1;
  // kTopK, kTopP: experts in equal runs of ids, of which a token may use `kept_groups` (DeepSeek-V2, 2024, sec. 2.2.2).
  int64_t groups = 1, kept_groups = 1;
  GroupScore group_score = GroupScore::kTopTwo;
  // kRandom: the draws of token t are a function of these and of first_row + t.
  uint64_t seed = 0, stream = 0;
  int64_t first_row = 0;
};

inline constexpr int64_t kMostChoices = 64;  // k of choose_experts

// probs [tokens, experts] -> ids i32 [tokens, k], in descending order of keys; ties go to the lower id. An expert's key
// is its score plus its `bias` (f64 [experts], or empty); with -infinity it is chosen only when nobody else is left.
// Keys that are NaN are lowest.
void choose_experts(const Exec& exec, TensorView probs, TensorView bias, const Choice& choice, TensorView ids);

// counts i64 [scopes, experts]: how often each is chosen by the tokens of each scope, which are equal runs of tokens.
void choice_counts(const Exec& exec, TensorView ids, TensorView counts);

// weights [tokens, k] = scale * probs of the ids, divided by their sum when `renormalise`.
void gate_weights(const Exec& exec, TensorView probs, TensorView ids, bool renormalise, double scale,
                  TensorView weights);
// dprobs [tokens, experts] (+)= through dweights [tokens, k].
void gate_weights_backward(const Exec& exec, TensorView probs, TensorView ids, bool renormalise, double scale,
                           TensorView dweights, TensorView dprobs, Write write);
// dense [tokens, experts]: the weights where their experts are, else 0; and the gradient of that.
void spread_weights(const Exec& exec, TensorView weights, TensorView ids, TensorView dense);
void spread_weights_backward(const Exec& exec, TensorView ddense, TensorView ids, TensorView dweights);

}  // namespace cadre::kernels
