#pragma once
// What steers the routing of a step: the state that the step before left, the config's rules, and chance.

#include <vector>

#include "model/routing.h"
#include "optim/expert_isolation.h"
#include "optim/expert_rules.h"

namespace cadre::launch {

struct SteeredStep {
  uint64_t seed = 0;
  int64_t step = 1;  // from 1
  int64_t total_steps = 1;
};

// By MoE layer of the whole model; the same on every rank. `state`: what the step before left. `isolation` may be null.
std::vector<model::LayerControls> controls_of_step(Allocator& allocator, const SteeredStep& step,
                                                   const model::ExpertLayout& layout, const optim::ExpertRules& rules,
                                                   const optim::ExpertIsolation* isolation,
                                                   std::vector<model::LayerControls> state);

}  // namespace cadre::launch
