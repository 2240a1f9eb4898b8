#include "launch/experts/choice.h"

#include <algorithm>
#include <numeric>

namespace cadre::launch {
namespace {

// How many are larger; of equal ones, the earlier come first.
double rank_of(const std::vector<double>& values, size_t place) {
  int64_t before = 0;
  for (size_t other = 0; other < values.size(); ++other) {
    before += values[other] > values[place] || (values[other] == values[place] && other < place);
  }
  return static_cast<double>(before);
}

}  // namespace

ExpertFacts facts_of(const ExpertHistory& history) {
  ExpertFacts facts;
  for (const LayerHistory& layer : history.layers()) {
    facts.loads.push_back(layer.load_average);
    facts.idle.emplace_back(layer.idle_steps.begin(), layer.idle_steps.end());
  }
  return facts;
}

void divide_by_means(std::vector<std::vector<double>>& layers) {
  for (std::vector<double>& layer : layers) {
    const double mean = std::accumulate(layer.begin(), layer.end(), 0.0) / static_cast<double>(layer.size());
    for (double& value : layer) value /= mean > 0 ? mean : 1;
  }
}

bool asks_for_norms(const config::Expression& where) { return where.text.find("norm") != std::string::npos; }

std::vector<model::ExpertPlace> choose_experts(const model::ExpertOperationSettings& operation,
                                               const model::ExpertLayout& layout, const ExpertFacts& facts,
                                               const config::Variables& variables) {
  std::vector<model::ExpertPlace> chosen;
  if (operation.kind == model::ExpertOperationKind::kAdd) return chosen;
  for (const model::ExpertPlace& place : model::ExpertSelector(operation.experts).find(layout)) {
    if (layout.layer(place.layer).is_shared(place.expert))
      throw ConfigError(model::name_of(place, layout) + ": is shared; wanted routed experts");
    const size_t layer = layout.moe_index(place.layer), expert = static_cast<size_t>(place.expert);
    const std::vector<double>& loads = facts.loads.at(layer);
    config::Variables known = variables;
    known["layer"] = static_cast<double>(place.layer);
    known["id"] = static_cast<double>(layout.layer(place.layer).id_of(place.expert));
    known["experts"] = static_cast<double>(loads.size());
    known["load"] = loads.at(expert);
    known["load_rank"] = rank_of(loads, expert);
    known["idle"] = facts.idle.empty() ? 0 : facts.idle.at(layer).at(expert);
    const bool norms = !facts.norms.empty();
    known["norm"] = norms ? facts.norms.at(layer).at(expert) : 1;
    known["norm_rank"] = norms ? rank_of(facts.norms.at(layer), expert) : 0;
    if (config::evaluate_condition(operation.where, known)) chosen.push_back(place);
  }
  return chosen;
}

}  // namespace cadre::launch
