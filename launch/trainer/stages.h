#pragma once
// How many layers each pipeline stage has.

#include <cstdint>
#include <vector>

#include "launch/settings.h"

namespace cadre::launch {

// parallel.layers_per_stage, checked; what is auto is balanced by FLOPs, the output layer counted. One stage for each
// pipeline rank and each of its stages_per_rank. `network` has its vocabulary size. Throws ConfigError naming the key.
std::vector<int64_t> decide_stages(const ParallelSettings& parallel, const model::NetworkSettings& network,
                                   int64_t seq_length);

}  // namespace cadre::launch
