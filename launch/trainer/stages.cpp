#include "launch/trainer/stages.h"

#include <fmt/core.h>

#include "core/error.h"
#include "model/flops.h"
#include "parallel/pipeline/stages.h"

namespace cadre::launch {

std::vector<int64_t> decide_stages(const ParallelSettings& parallel, const model::NetworkSettings& network,
                                   int64_t seq_length) {
  const int64_t layers = network.model.num_layers;
  const auto stages = static_cast<int>(*parallel.pipeline_parallel.value * parallel.stages_per_rank);
  if (!parallel.layers_per_stage.is_auto()) {
    const std::vector<int64_t>& chosen = *parallel.layers_per_stage.value;
    try {
      parallel::check_stages(chosen, layers, stages, parallel::EmptyStages::kAllow);
    } catch (const ConfigError& failure) {
      throw ConfigError(std::string("parallel.") + failure.what());
    }
    return chosen;
  }
  if (stages > layers) {
    throw ConfigError(fmt::format("parallel.pipeline_parallel: {} x {} stages for {} layers; wanted at most {} stages",
                                  *parallel.pipeline_parallel.value, parallel.stages_per_rank, layers, layers));
  }
  std::vector<parallel::LayerCost> costs;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const double flops = model::layer_flops(network, layer, seq_length);
    costs.push_back({flops, 2 * flops});
  }
  const double head = model::head_flops(network);
  return parallel::balanced_stages(costs, stages, {}, {head, 2 * head});
}

}  // namespace cadre::launch
