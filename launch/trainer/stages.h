#pragma once
// How many layers each pipeline stage has.

#include <cstdint>
#include <vector>

#include "kernels/exec.h"
#include "launch/settings.h"
#include "parallel/pipeline/stages.h"

namespace cadre::launch {

// Of one micro-batch, in any unit.
struct LayerCosts {
  std::vector<parallel::LayerCost> layers;
  parallel::LayerCost first, last;  // what comes before the layers, and after them
};
// FLOPs of a token. `network` has its vocabulary size.
LayerCosts counted_costs(const model::NetworkSettings& network, int64_t seq_length);
// Seconds on this machine, found by running the config's blocks for a second or two. All of `settings` is decided but
// the stages.
LayerCosts measured_costs(const Settings& settings, const kernels::Exec& exec);

// parallel.layers_per_stage, checked; what is auto is balanced by the costs. One stage for each pipeline rank and each
// of its stages_per_rank. Throws ConfigError naming the key.
std::vector<int64_t> decide_stages(const ParallelSettings& parallel, const LayerCosts& costs);

}  // namespace cadre::launch
