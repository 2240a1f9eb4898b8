#pragma once
// Matrix-product FLOPs of a forward, for one token. A backward takes twice as many.

#include <cstdint>

#include "model/expert_layout.h"

namespace cadre::model {

// Parameters of a layer, of the router and of top_k experts in an MoE one, that a token passes through in matrix
// products. Experts are taken to be chosen alike, those that compute next to nothing too: the more of these there are,
// the fewer parameters a token passes through.
int64_t active_parameters_of_layer(const NetworkSettings& settings, const LayerExperts& experts);
// Megatron's convention: two for each active parameter, and the causal half of attention.
double layer_flops(const NetworkSettings& settings, const LayerExperts& experts, int64_t sequence_length);
double head_flops(const NetworkSettings& settings);

}  // namespace cadre::model
