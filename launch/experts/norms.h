#pragma once
// How large experts' weights are.

#include <vector>

#include "launch/trainer/train_state.h"
#include "parallel/mesh/mesh.h"

namespace cadre::launch {

// L2 over all weights of each expert, by MoE layer and place, 1 being the layer's mean. Collective.
std::vector<std::vector<double>> expert_norms(const kernels::Exec& exec, TrainState& state, parallel::Mesh& mesh);

}  // namespace cadre::launch
