#pragma once
// Experts without matrix products: nothing, the input itself, or a learned mixture of input and a constant (Jin et al.,
// "MoE++: Accelerating mixture-of-experts methods with zero-computation experts", 2024, sec. 3.1). They are computed
// where the token is.
//
// Ids from `first` on are theirs; a token's places [tokens, k] of other ids, and of -1, are skipped. constants [n, 3,
// h]: of each constant expert the vector v, then the rows of W; its output is
//   y = a1 x + a2 v, (a1, a2) = softmax(W x).

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

struct SimpleExperts {
  static constexpr int32_t kZero = -2, kCopy = -1;
  int64_t first = 0;
  std::vector<int32_t> kinds{};  // from `first` on: kZero, kCopy, or a constant expert's place in constants
};

// Factors f64 [all experts] of the gradients that reach an expert's output and that leave it for its input; or empty.
struct SimpleFactors {
  TensorView output{}, input{};
};

// out [tokens, h] += sum over places of weight * y.
void add_simple_experts(const Exec& exec, const SimpleExperts& experts, TensorView x, TensorView ids,
                        TensorView weights, TensorView constants, TensorView out);
// dx [tokens, h] (+)= and dweights [tokens, k] =, through dout [tokens, h]; either may be empty.
void simple_experts_backward(const Exec& exec, const SimpleExperts& experts, const SimpleFactors& factors, TensorView x,
                             TensorView ids, TensorView weights, TensorView constants, TensorView dout, TensorView dx,
                             Write write, TensorView dweights);
// dconstants [n, 3, h] (+)=, over tokens in their order.
void simple_experts_gradient(const Exec& exec, const SimpleExperts& experts, const SimpleFactors& factors, TensorView x,
                             TensorView ids, TensorView weights, TensorView constants, TensorView dout,
                             TensorView dconstants, Write write);

}  // namespace cadre::kernels
