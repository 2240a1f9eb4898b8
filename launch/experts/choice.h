#pragma once
// Which experts an operation is for: those that its selector names and its `where` is true of.

#include <vector>

#include "launch/experts/operation.h"
#include "launch/trainer/expert_history.h"

namespace cadre::launch {

// By MoE layer and place.
struct ExpertFacts {
  ExpertLoadTable loads;                    // mean of the last steps; 1 is fair
  std::vector<std::vector<double>> idle{};  // steps without tokens; none: 0
  // L2 over an expert's weights, 1 being the layer's mean; empty: unknown, and then `where` must not ask.
  std::vector<std::vector<double>> norms{};
};

// What a run remembers; without norms.
ExpertFacts facts_of(const ExpertHistory& history);
// By layer: each value over the mean of its layer.
void divide_by_means(std::vector<std::vector<double>>& layers);

// Whether `where` asks for norms, which take time to compute.
bool asks_for_norms(const config::Expression& where);

// Expert places of the operation, by layer, then place; all of the layers for `add`. `variables`: step and steps.
// Throws ConfigError when the expression cannot be computed.
std::vector<model::ExpertPlace> choose_experts(const model::ExpertOperationSettings& operation,
                                               const model::ExpertLayout& layout, const ExpertFacts& facts,
                                               const config::Variables& variables);

}  // namespace cadre::launch
