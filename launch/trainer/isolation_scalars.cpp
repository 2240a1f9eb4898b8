#include "launch/trainer/isolation_scalars.h"

#include <nlohmann/json.hpp>

namespace cadre::launch {
namespace {

using nlohmann::json;
using optim::IsolatedExpert;

}  // namespace

json isolation_scalars(const optim::ExpertIsolation& isolation, const std::vector<int64_t>& snapshot_steps) {
  const model::IsolationSettings& settings = isolation.settings();
  json all = json::object();
  for (size_t i = 0; i < isolation.experts().size(); ++i) {
    const IsolatedExpert& state = isolation.state(i);
    json& entry = all[isolation.name(i)] = {{"skipped", state.skipped}};
    if (settings.loss_scale) {
      entry["loss_scale"] = state.loss_scale;
      entry["good_steps"] = state.good_steps;
    }
    if (settings.accumulate_tokens > 0) entry["tokens_seen"] = state.tokens_seen;
    if (settings.quarantine) entry["quarantined_until"] = state.quarantined_until;
    if (!snapshot_steps.empty()) entry["snapshot_steps"] = snapshot_steps[i];
  }
  return all;
}

std::vector<int64_t> restore_isolation(const json& scalars, optim::ExpertIsolation& isolation) {
  std::vector<int64_t> snapshot_steps;
  for (size_t i = 0; i < isolation.experts().size(); ++i) {
    const json entry = scalars.value(isolation.name(i), json::object());
    IsolatedExpert state = isolation.fresh();
    state.loss_scale = entry.value("loss_scale", state.loss_scale);
    state.good_steps = entry.value("good_steps", state.good_steps);
    state.tokens_seen = entry.value("tokens_seen", state.tokens_seen);
    state.quarantined_until = entry.value("quarantined_until", state.quarantined_until);
    state.skipped = entry.value("skipped", state.skipped);
    isolation.set_state(i, state);
    snapshot_steps.push_back(entry.value("snapshot_steps", int64_t{-1}));
  }
  return snapshot_steps;
}

}  // namespace cadre::launch
