#pragma once
// What a run remembers of its experts' loads, beyond one step: for telemetry, and for whatever decides by it.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "model/expert_layout.h"

namespace cadre::launch {

// Of the experts of one MoE layer, in the order of their places.
struct LayerHistory {
  std::vector<int64_t> idle_steps;   // finished steps since the last one in which a token was computed by it
  std::vector<double> load_average;  // exponential mean over about kLoadSteps steps of (share of choices) x experts: 1
                                     // is fair
};

class ExpertHistory {
 public:
  static constexpr double kLoadSteps = 100;

  // Nobody was idle, and loads were fair.
  explicit ExpertHistory(const model::ExpertLayout& layout);

  // By MoE layer of the whole model, as all that follows.
  const std::vector<LayerHistory>& layers() const { return layers_; }
  // Counts a finished step: choices of each expert, drops included, and rows that it computed; over all ranks.
  void add(const std::vector<std::vector<double>>& choices, const std::vector<std::vector<double>>& computed);

  // `expert_idle_steps` and `expert_load_average` among a checkpoint's scalars. What is not there begins anew; throws
  // CheckpointError where the numbers of experts differ.
  void save(nlohmann::json& scalars) const;
  void restore(const nlohmann::json& scalars);

 private:
  std::vector<LayerHistory> layers_;
};

}  // namespace cadre::launch
