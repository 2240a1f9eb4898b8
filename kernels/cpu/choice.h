#pragma once
// The f32 code of kernels/choice.h. Serial, over tokens [begin, end).

#include <vector>

#include "kernels/choice.h"
#include "kernels/cpu/elementwise.h"

namespace cadre::cpu {

struct ChoiceTask {
  Rows probs;
  const double* bias;  // or null
  int32_t* ids;
  int64_t experts;
  int64_t k;
};
// By keys; not the kinds that do without.
void choose_experts(const ChoiceTask& task, const kernels::Choice& choice, int64_t begin, int64_t end);

struct GateTask {
  Rows probs;
  const int32_t* ids;
  bool renormalise;
  float scale;
  int64_t experts;
  int64_t k;
};
void gate_weights(const GateTask& task, float* weights, int64_t begin, int64_t end);
void gate_weights_backward(const GateTask& task, const float* dweights, Rows dprobs, bool accumulate, int64_t begin,
                           int64_t end);

}  // namespace cadre::cpu
