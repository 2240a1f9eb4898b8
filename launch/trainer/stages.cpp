#include "launch/trainer/stages.h"

#include <fmt/core.h>

#include "core/error.h"
#include "launch/plan/device.h"
#include "launch/trainer/expert_balance.h"
#include "model/flops.h"

namespace cadre::launch {

LayerCosts counted_costs(const model::NetworkSettings& network, int64_t seq_length) {
  LayerCosts costs;
  const model::ExpertLayout experts(network);
  for (int64_t layer = 0; layer < network.model.num_layers; ++layer) {
    const double flops = model::layer_flops(network, experts.layer(layer), seq_length);
    costs.layers.push_back({flops, 2 * flops});
  }
  const double head = model::head_flops(network);
  costs.last = {head, 2 * head};
  return costs;
}

LayerCosts measured_costs(const Settings& settings, const kernels::Exec& exec) {
  ProfileShape shape;
  shape.sequences = *settings.batch.micro_batch_size.value;
  shape.seq_length = settings.data.seq_length;
  shape.reset_at_documents = settings.data.reset_at_documents;
  const auto group = static_cast<int>(*settings.parallel.expert_parallel.value);
  const model::NetworkSettings network = settings.network();
  shape.placements = first_placements(settings.parallel.placement, model::ExpertLayout(network), group);
  shape.dispatch = settings.parallel.dispatch();
  shape.dtype = settings.precision.dtype();
  const ModelProfile profile = profile_model(network, shape, exec);
  const Device device = measured_cpu(network, shape, exec, 1, machine_memory_bytes());
  const auto cost_of = [&](const BlockProfile& block) -> parallel::LayerCost {
    const BlockSeconds seconds = seconds_of(device, block, 2);
    return {seconds.forward, seconds.backward_inputs + seconds.backward_weights};
  };
  LayerCosts costs{{}, cost_of(profile.embedding()), cost_of(profile.head())};
  for (int64_t layer = 0; layer < network.model.num_layers; ++layer)
    costs.layers.push_back(cost_of(profile.layer(layer)));
  return costs;
}

std::vector<int64_t> decide_stages(const ParallelSettings& parallel, const LayerCosts& costs) {
  const auto layers = static_cast<int64_t>(costs.layers.size());
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
  return parallel::balanced_stages(costs.layers, stages, costs.first, costs.last);
}

}  // namespace cadre::launch
