#include "launch/experts/edited_scalars.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

namespace cadre::launch {
namespace {

using nlohmann::json;

enum class Keeps { kValues, kSum, kMean };
// By MoE layer and place; `fresh`: of a layer that had no experts, which otherwise has no values yet.
struct Counted {
  const char* key;
  Keeps keeps;
  double born;
  bool fresh;
};
constexpr Counted kCounted[] = {
    {"expert_fractions", Keeps::kSum, 0, false},     {"expert_loads", Keeps::kSum, 0, false},
    {"expert_smooth_loads", Keeps::kSum, 0, false},  {"expert_biases", Keeps::kValues, 0, false},
    {"expert_thresholds", Keeps::kValues, 0, false}, {"expert_load_average", Keeps::kMean, 1, true},
};
constexpr const char* kIdle = "expert_idle_steps";

double sum_of(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// Where the value of each place comes from: a place before, or the recipe of somebody new.
class LayerPlaces {
 public:
  LayerPlaces(int64_t layer, const model::LayerExperts& before, const model::LayerExperts& after,
              const ExpertEdit& edit) {
    for (int64_t place = 0; place < after.experts(); ++place) {
      const auto found = edit.recipes.find({layer, after.id_of(place)});
      recipes_.push_back(found == edit.recipes.end() ? nullptr : &found->second);
      old_.push_back(before.is_moe() ? before.place_of(after.id_of(place)) : -1);
    }
    users_.assign(static_cast<size_t>(before.experts()), 0.0);
    for (size_t place = 0; place < old_.size(); ++place) {
      if (old_[place] >= 0) ++users_[static_cast<size_t>(old_[place])];
      const bool copies = old_[place] < 0 && recipes_[place] != nullptr && !recipes_[place]->sources.empty();
      for (size_t row = 0; copies && row < recipes_[place]->rows.size(); ++row) {
        if (!recipes_[place]->rows[row].file) ++users_[static_cast<size_t>(recipes_[place]->rows[row].place)];
      }
    }
  }

  std::vector<double> values(const std::vector<double>& old, const Counted& counted) const {
    if (old.empty() && !counted.fresh) return {};
    std::vector<double> result;
    for (size_t place = 0; place < old_.size(); ++place) {
      result.push_back(old.empty() ? counted.born : value_of(place, old, counted.keeps));
    }
    double scale = 1;
    const double now = sum_of(result), then = sum_of(old);
    if (counted.keeps == Keeps::kSum && now > 0) scale = then / now;
    if (counted.keeps == Keeps::kMean && now > 0 && !old.empty())
      scale = then / static_cast<double>(old.size()) * static_cast<double>(result.size()) / now;
    for (double& value : result) value *= scale;
    return result;
  }
  std::vector<int64_t> idle(const std::vector<int64_t>& old) const {
    std::vector<int64_t> result;
    for (const int64_t place : old_) result.push_back(place < 0 || old.empty() ? 0 : old[static_cast<size_t>(place)]);
    return result;
  }

 private:
  // Copies and parts share what was counted of an expert; one that is made of several has all of theirs.
  double value_of(size_t place, const std::vector<double>& old, Keeps keeps) const {
    const auto share = [&](int64_t of, double weight) {
      const double value = old[static_cast<size_t>(of)];
      return keeps == Keeps::kValues ? weight * value : value / users_[static_cast<size_t>(of)];
    };
    if (old_[place] >= 0) return share(old_[place], 1);
    const double mean = sum_of(old) / static_cast<double>(old.size());
    const ExpertRecipe* const recipe = recipes_[place];
    if (recipe == nullptr || recipe->rows.empty() || recipe->rows.front().file) return mean;
    if (recipe->sources.empty() && keeps != Keeps::kValues) return mean;
    double value = 0;
    for (const ExpertRecipe::Row& row : recipe->rows) value += share(row.place, row.weight);
    return value;
  }

  std::vector<const ExpertRecipe*> recipes_;
  std::vector<double> users_;  // by place before: who has a part in it
  std::vector<int64_t> old_;   // -1: nobody's
};

// Of every tensor that an expert or its router may have; more than there are do no harm.
constexpr const char* kExpertTensors[] = {"w1", "w2", "w3", "v", "mix"};
constexpr const char* kRouterTensors[] = {"weight", "noise.weight", "query.weight", "groups.weight"};

void add_steps(json& steps, const ExpertEdit& edit) {
  for (const auto& [where, recipe] : edit.recipes) {
    for (const char* tensor : kExpertTensors) {
      int64_t most = 0;
      for (const ExpertRecipe::Source& source : recipe.sources) {
        const json& from = source.file ? source.file->scalars().at("segment_steps") : steps;
        most = std::max(most, from.value(fmt::format("{}.{}", source.prefix, tensor), int64_t{0}));
      }
      steps[fmt::format("layers.{}.moe.experts.{}.{}", where.first, where.second, tensor)] = most;
    }
  }
  for (const model::EditedLayerSettings& layer : edit.layers) {
    for (const char* tensor : kRouterTensors) {
      const std::string name = fmt::format("layers.{}.moe.router.{}", layer.layer, tensor);
      if (!steps.contains(name)) steps[name] = 0;
    }
  }
}

}  // namespace

json edited_scalars(const json& scalars, const model::ExpertLayout& before, const model::ExpertLayout& after,
                    const ExpertEdit& edit) {
  json result = scalars;
  result.erase("placement");
  std::vector<LayerPlaces> places;
  for (const int64_t layer : after.moe_layers()) {
    places.emplace_back(layer, before.layer(layer), after.layer(layer), edit);
  }
  // Of a layer that had experts before, what was counted of them.
  const auto old = [&](const char* key, size_t index) -> json {
    const int64_t layer = after.moe_layers()[index];
    return before.is_moe(layer) ? scalars.at(key).at(before.moe_index(layer)) : json::array();
  };
  for (const Counted& counted : kCounted) {
    if (!scalars.contains(counted.key)) continue;
    json& layers = result[counted.key] = json::array();
    for (size_t i = 0; i < places.size(); ++i) {
      layers.push_back(places[i].values(old(counted.key, i).get<std::vector<double>>(), counted));
    }
  }
  if (scalars.contains(kIdle)) {
    json& layers = result[kIdle] = json::array();
    for (size_t i = 0; i < places.size(); ++i)
      layers.push_back(places[i].idle(old(kIdle, i).get<std::vector<int64_t>>()));
  }
  add_steps(result["segment_steps"], edit);
  for (const auto& [where, recipe] : edit.recipes) {  // what isolated experts kept is not there either
    if (result.contains("isolation"))
      result["isolation"].erase(fmt::format("layers.{}.experts.{}", where.first, where.second));
  }
  return result;
}

}  // namespace cadre::launch
