#include "launch/trainer/expert_history.h"

#include <nlohmann/json.hpp>
#include <numeric>

#include "core/error.h"

namespace cadre::launch {
namespace {

using nlohmann::json;

constexpr const char* kIdleSteps = "expert_idle_steps";
constexpr const char* kLoadAverage = "expert_load_average";

template <class Value>
json json_of(const std::vector<LayerHistory>& layers, std::vector<Value> LayerHistory::*which) {
  json all = json::array();
  for (const LayerHistory& layer : layers) all.push_back(layer.*which);
  return all;
}

template <class Value>
void read(const json& scalars, const char* name, std::vector<LayerHistory>& layers,
          std::vector<Value> LayerHistory::*which) {
  if (!scalars.contains(name)) return;
  for (size_t i = 0; i < layers.size(); ++i) {
    auto values = scalars.at(name).at(i).get<std::vector<Value>>();
    if (values.size() != (layers[i].*which).size())
      throw CheckpointError(std::string(name) + ": the numbers of experts differ");
    layers[i].*which = std::move(values);
  }
}

}  // namespace

ExpertHistory::ExpertHistory(const model::ExpertLayout& layout) {
  for (const int64_t layer : layout.moe_layers()) {
    const auto experts = static_cast<size_t>(layout.layer(layer).experts());
    layers_.push_back({std::vector<int64_t>(experts, 0), std::vector<double>(experts, 1.0)});
  }
}

void ExpertHistory::add(const std::vector<std::vector<double>>& choices,
                        const std::vector<std::vector<double>>& computed) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    LayerHistory& layer = layers_[i];
    const double sum = std::accumulate(choices[i].begin(), choices[i].end(), 0.0);
    const auto experts = static_cast<double>(choices[i].size());
    for (size_t e = 0; e < choices[i].size(); ++e) {
      layer.idle_steps[e] = computed[i][e] > 0 ? 0 : layer.idle_steps[e] + 1;
      if (sum > 0) layer.load_average[e] += (choices[i][e] / sum * experts - layer.load_average[e]) / kLoadSteps;
    }
  }
}

void ExpertHistory::save(json& scalars) const {
  scalars[kIdleSteps] = json_of(layers_, &LayerHistory::idle_steps);
  scalars[kLoadAverage] = json_of(layers_, &LayerHistory::load_average);
}

void ExpertHistory::restore(const json& scalars) {
  read(scalars, kIdleSteps, layers_, &LayerHistory::idle_steps);
  read(scalars, kLoadAverage, layers_, &LayerHistory::load_average);
}

}  // namespace cadre::launch
