#pragma once
// Where experts are, and when they move: parallel.placement at work.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <vector>

#include "launch/monitor/observer.h"
#include "launch/settings.h"
#include "model/expert_layout.h"
#include "parallel/expert/balance.h"

namespace cadre::launch {

// Where experts are at first, by layer. `ranks`: of an expert group. Throws ConfigError naming the key when the table
// does not fit experts or ranks.
std::vector<parallel::Placement> first_placements(const PlacementSettings& settings, const model::ExpertLayout& layout,
                                                  int ranks);

class ExpertBalance {
 public:
  // As first_placements().
  ExpertBalance(const PlacementSettings& settings, const model::NetworkSettings& network, int ranks);

  // By layer.
  const std::vector<parallel::Placement>& placements() const { return placements_; }

  // Counts a step's loads. The same on every rank, as all that follows.
  void add(const StepMetrics& metrics);
  // Of the worst layer, for the loads of one step: the fullest rank's over the mean.
  double imbalance(const StepMetrics& metrics) const;
  // At the end of a step that is a multiple of `every`: other placements, if those are better for the loads since the
  // last time.
  struct Change {
    double before, after;  // imbalance
  };
  std::optional<Change> change(int64_t step);

  // For checkpoints. State of a run with another number of ranks or experts, or another kind, is left alone.
  nlohmann::json state() const;
  void restore(const nlohmann::json& state);

 private:
  const parallel::Placement& of_layer(size_t moe_layer) const;
  double imbalance() const;
  std::vector<parallel::Placement> balanced() const;

  PlacementSettings settings_;
  model::ExpertLayout layout_;
  int ranks_;
  std::vector<parallel::Placement> placements_;
  std::vector<parallel::ExpertLoads> loads_;  // by MoE layer, since the last time
};

}  // namespace cadre::launch
