#include "launch/trainer/expert_metrics.h"

#include <numeric>

namespace cadre::launch {
namespace {

// `totals`: sums over tokens of each expert's share of a token's scores, then of entropies. A token's shares make 1.
LayerLoad::Detail detail_of(const std::vector<double>& totals) {
  LayerLoad::Detail detail;
  detail.mass.assign(totals.begin(), totals.end() - 1);
  const double tokens = std::accumulate(detail.mass.begin(), detail.mass.end(), 0.0);
  for (double& mass : detail.mass) mass /= tokens;
  detail.entropy = totals.back() / tokens;
  return detail;
}

void add_norms(std::vector<LayerLoad>& loads, const model::ExpertLayout& layout,
               const std::vector<optim::ExpertNorms>& norms) {
  for (const optim::ExpertNorms& of : norms) {
    LayerLoad& load = loads[layout.moe_index(of.layer)];
    const auto place = static_cast<size_t>(of.expert);
    if (place >= load.tokens.size()) continue;  // of shared experts
    load.detail->gradient_norm.resize(load.tokens.size());
    load.detail->update_norm.resize(load.tokens.size());
    load.detail->gradient_norm.at(place) = of.gradient;
    load.detail->update_norm.at(place) = of.update;
  }
}

}  // namespace

std::vector<LayerLoad> layer_loads(const model::ExpertLayout& layout, const SharedTotals& shared,
                                   const ExpertHistory& history, const std::vector<optim::ExpertNorms>& norms) {
  std::vector<LayerLoad> loads;
  for (size_t i = 0; i < shared.counts.size(); ++i) {
    LayerLoad& load = loads.emplace_back();
    load.layer = layout.moe_layers()[i];
    load.ids = layout.layer(load.layer).ids;
    for (size_t e = 0; e < shared.counts[i].size(); ++e) {
      load.tokens.push_back(static_cast<int64_t>(shared.counts[i][e]));
      load.drops.push_back(load.tokens.back() - static_cast<int64_t>(shared.tokens.kept[i][e]));
    }
    load.dropped = std::accumulate(load.drops.begin(), load.drops.end(), int64_t{0});
    load.idle_steps = history.layers()[i].idle_steps;
    load.balance_loss = shared.balance_loss[i];
    load.z_loss = shared.z_loss[i];
    if (!shared.score_totals.empty()) load.detail = detail_of(shared.score_totals[i]);
  }
  if (!shared.score_totals.empty()) add_norms(loads, layout, norms);
  return loads;
}

std::optional<DispatchTraffic> dispatch_traffic(const SharedTotals& shared, const parallel::Layout& layout,
                                                double row_bytes) {
  if (shared.rows.empty()) return std::nullopt;
  DispatchTraffic traffic{layout.data, layout.expert, shared.rows};
  for (double& bytes : traffic.bytes) bytes *= 2 * row_bytes;
  return traffic;
}

}  // namespace cadre::launch
