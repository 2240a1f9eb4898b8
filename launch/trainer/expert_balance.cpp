#include "launch/trainer/expert_balance.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/config/messages.h"
#include "core/error.h"
#include "model/expert_shard.h"

namespace cadre::launch {
namespace {

using parallel::Placement;

Placement placement_of_table(const std::vector<std::vector<int64_t>>& table, int64_t layer, int64_t experts,
                             int ranks) {
  if (static_cast<int64_t>(table.size()) != experts) {
    throw ConfigError(
        fmt::format("parallel.placement.holders: lists of {} experts, layer {} has {}; wanted one list "
                    "of ranks for each",
                    table.size(), layer, experts));
  }
  std::vector<std::vector<int>> holders;
  for (const std::vector<int64_t>& of_expert : table) holders.emplace_back(of_expert.begin(), of_expert.end());
  try {
    return Placement(std::move(holders), ranks);
  } catch (const ConfigError& failure) {
    throw ConfigError(fmt::format("parallel.placement.holders: {}", failure.what()));
  }
}

Placement first_placement(const PlacementSettings& settings, int64_t layer, const model::LayerExperts& experts,
                          int ranks) {
  if (settings.kind != PlacementKind::kEven) {
    for (const model::ExpertSet& set : experts.routed) {
      if (set.placement == "even") continue;
      throw ConfigError(
          fmt::format("parallel.placement.kind: {} beside placement: {} of the group {}; wanted one of them",
                      config::enum_name(settings.kind), set.placement, config::in_quotes(set.name)));
    }
  }
  if (settings.kind == PlacementKind::kTable && experts.computing() > 0)
    return placement_of_table(settings.holders, layer, experts.computing(), ranks);
  return model::placement_of(experts, ranks);
}

nlohmann::json holders_of(const Placement& placement) {
  nlohmann::json all = nlohmann::json::array();
  for (int64_t expert = 0; expert < placement.experts(); ++expert) all.push_back(placement.holders(expert));
  return all;
}

}  // namespace

std::vector<Placement> first_placements(const PlacementSettings& settings, const model::ExpertLayout& layout,
                                        int ranks) {
  std::vector<Placement> placements;
  for (int64_t layer = 0; layer < layout.layers(); ++layer) {
    placements.push_back(first_placement(settings, layer, layout.layer(layer), ranks));
  }
  return placements;
}

ExpertBalance::ExpertBalance(const PlacementSettings& settings, const model::NetworkSettings& network, int ranks)
    : settings_(settings), layout_(network), ranks_(ranks), placements_(first_placements(settings, layout_, ranks)) {
  for (const int64_t layer : layout_.moe_layers()) {
    loads_.emplace_back(static_cast<size_t>(layout_.layer(layer).computing()), 0.0);
  }
}

const Placement& ExpertBalance::of_layer(size_t moe_layer) const {
  return placements_[static_cast<size_t>(layout_.moe_layers()[moe_layer])];
}

void ExpertBalance::add(const StepMetrics& metrics) {
  for (size_t layer = 0; layer < metrics.experts.size(); ++layer) {
    const std::vector<int64_t>& tokens = metrics.experts[layer].tokens;
    for (size_t expert = 0; expert < loads_[layer].size(); ++expert) {
      loads_[layer][expert] += static_cast<double>(tokens[expert]);
    }
  }
}

double ExpertBalance::imbalance(const StepMetrics& metrics) const {
  double worst = 1;
  for (size_t layer = 0; layer < metrics.experts.size(); ++layer) {
    const std::vector<int64_t>& tokens = metrics.experts[layer].tokens;
    const Placement& placement = of_layer(layer);
    worst = std::max(worst, parallel::imbalance(placement, {tokens.begin(), tokens.begin() + placement.experts()}));
  }
  return worst;
}

double ExpertBalance::imbalance() const {
  double worst = 1;
  for (size_t layer = 0; layer < loads_.size(); ++layer) {
    worst = std::max(worst, parallel::imbalance(of_layer(layer), loads_[layer]));
  }
  return worst;
}

// A layer changes only when that helps: state does not move for nothing.
std::vector<Placement> ExpertBalance::balanced() const {
  std::vector<Placement> next = placements_;
  for (size_t layer = 0; layer < loads_.size(); ++layer) {
    const Placement better = parallel::balanced_placement(loads_[layer], ranks_, static_cast<int>(settings_.replicas));
    const bool helps = parallel::imbalance(better, loads_[layer]) < parallel::imbalance(of_layer(layer), loads_[layer]);
    if (helps) next[static_cast<size_t>(layout_.moe_layers()[layer])] = better;
  }
  return next;
}

std::optional<ExpertBalance::Change> ExpertBalance::change(int64_t step) {
  const bool due = settings_.kind == PlacementKind::kBalanced && ranks_ > 1 && step % settings_.every == 0;
  if (!due || loads_.empty()) return std::nullopt;
  std::vector<Placement> next = balanced();
  const bool changes = next != placements_;
  Change change{imbalance(), 0};
  placements_ = std::move(next);
  change.after = imbalance();
  for (parallel::ExpertLoads& layer : loads_) std::fill(layer.begin(), layer.end(), 0.0);
  return changes ? std::optional(change) : std::nullopt;
}

nlohmann::json ExpertBalance::state() const {
  nlohmann::json holders = nlohmann::json::array();
  for (const Placement& placement : placements_) holders.push_back(holders_of(placement));
  return {{"ranks", ranks_}, {"holders", holders}, {"loads", loads_}};
}

void ExpertBalance::restore(const nlohmann::json& state) {
  const bool same = settings_.kind == PlacementKind::kBalanced && state.value("ranks", 0) == ranks_;
  if (!same) return;
  try {
    std::vector<Placement> placements;
    for (const nlohmann::json& layer : state.at("holders")) {
      placements.emplace_back(layer.get<std::vector<std::vector<int>>>(), ranks_);
    }
    auto loads = state.at("loads").get<std::vector<parallel::ExpertLoads>>();
    if (placements.size() == 1) placements.assign(placements_.size(), placements.front());  // as once for all layers
    bool fits = placements.size() == placements_.size() && loads.size() == loads_.size();
    for (size_t i = 0; fits && i < loads.size(); ++i) {
      const auto layer = static_cast<size_t>(layout_.moe_layers()[i]);
      fits = loads[i].size() == loads_[i].size() && placements[layer].experts() == placements_[layer].experts();
    }
    if (!fits) throw CheckpointError("the placement of experts is of another number of layers or experts");
    placements_ = std::move(placements);
    loads_ = std::move(loads);
  } catch (const nlohmann::json::exception& failure) {
    throw CheckpointError(std::string("the placement of experts cannot be read: ") + failure.what());
  }
}

}  // namespace cadre::launch
