#include "optim/expert_isolation.h"

#include <algorithm>
#include <cmath>

namespace cadre::optim {

ExpertIsolation::ExpertIsolation(model::IsolationSettings settings, const model::ExpertLayout& layout,
                                 std::optional<double> clip_norm)
    : settings_(std::move(settings)), clip_norm_(settings_.clip_norm.value_or(clip_norm)) {
  try {
    experts_ = model::ExpertSelector(settings_.experts).resolve(layout);
  } catch (const ConfigError& failure) {
    throw model::ExpertLayoutError("moe.isolation.experts", failure.what());
  }
  std::erase_if(experts_,
                [&](const model::ExpertPlace& place) { return place.expert >= layout.layer(place.layer).computing(); });
  if (experts_.empty() && !layout.changes()) {
    throw model::ExpertLayoutError("moe.isolation.experts",
                                   settings_.experts + ": none of these is a routed expert that computes; wanted some");
  }
  for (size_t i = 0; i < experts_.size(); ++i) {
    index_[{experts_[i].layer, experts_[i].expert}] = static_cast<int>(i);
    moe_layers_.push_back(layout.moe_index(experts_[i].layer));
    names_.push_back(model::name_of(experts_[i], layout));
    ids_.push_back(layout.layer(experts_[i].layer).id_of(experts_[i].expert));
  }
  states_.assign(experts_.size(), fresh());
}

int ExpertIsolation::index_of(int64_t layer, int64_t expert) const {
  const auto found = index_.find({layer, expert});
  return found == index_.end() ? -1 : found->second;
}

double ExpertIsolation::loss_scale(int64_t layer, int64_t expert) const {
  const int index = index_of(layer, expert);
  return index < 0 ? 1 : states_[static_cast<size_t>(index)].loss_scale;
}

bool ExpertIsolation::quarantined(int64_t layer, int64_t expert, int64_t step) const {
  const int index = index_of(layer, expert);
  return index >= 0 && step <= states_[static_cast<size_t>(index)].quarantined_until;
}

IsolatedExpert ExpertIsolation::fresh() const {
  IsolatedExpert expert;
  if (settings_.loss_scale) expert.loss_scale = settings_.loss_scale->initial;
  return expert;
}

void ExpertIsolation::set_state(size_t index, IsolatedExpert state) {
  if (!settings_.loss_scale) state.loss_scale = 1, state.good_steps = 0;
  if (settings_.accumulate_tokens == 0) state.tokens_seen = 0;
  if (!settings_.quarantine) state.quarantined_until = 0;
  states_[index] = state;
}

ExpertEvent ExpertIsolation::event(size_t index, ExpertEvent::Kind kind) const {
  return {static_cast<int>(experts_[index].layer), static_cast<int>(ids_[index]), kind, 0, 0};
}

std::vector<IsolatedGradient> ExpertIsolation::gradients(const ExpertTokens& tokens) const {
  std::vector<IsolatedGradient> gradients(experts_.size());
  const auto of = [&](const std::vector<std::vector<double>>& counts, size_t i) {
    return counts.empty() ? 0 : counts.at(moe_layers_[i]).at(static_cast<size_t>(experts_[i].expert));
  };
  for (size_t i = 0; i < experts_.size(); ++i) {
    gradients[i].tokens = of(tokens.kept, i);
    gradients[i].faults = of(tokens.faults, i);
  }
  return gradients;
}

ExpertIsolation::Result ExpertIsolation::step(int64_t step, double global_tokens,
                                              const std::vector<IsolatedGradient>& gradients) {
  Result result;
  result.decisions.resize(experts_.size());
  for (size_t i = 0; i < experts_.size(); ++i) {
    IsolatedExpert& state = states_[i];
    const IsolatedGradient& gradient = gradients[i];
    if (gradient.rule.frozen || step <= state.quarantined_until) continue;
    if (state.quarantined_until > 0) {
      state.quarantined_until = 0;
      result.events.push_back(event(i, ExpertEvent::Kind::kReadmitted));
    }
    const bool good = std::isfinite(gradient.square) && gradient.faults == 0;
    IsolatedDecision& decision = result.decisions[i];
    decision = good ? accept(state, gradient, global_tokens) : discard(i, gradient, step, result.events);
    decision.snapshot = good && settings_.quarantine && step % settings_.quarantine->snapshot_every == 0;
  }
  return result;
}

// Where a smaller scale could help, it is tried first.
IsolatedDecision ExpertIsolation::discard(size_t index, const IsolatedGradient& gradient, int64_t step,
                                          std::vector<ExpertEvent>& events) {
  IsolatedExpert& state = states_[index];
  ++state.skipped;
  const bool scale_may_help = settings_.loss_scale && gradient.faults == 0 && state.loss_scale > 1;
  if (settings_.loss_scale) {
    state.loss_scale = std::max(1.0, state.loss_scale / settings_.loss_scale->factor);
    state.good_steps = 0;
  }
  const bool restores = settings_.quarantine && !scale_may_help;
  ExpertEvent& happened =
      events.emplace_back(event(index, restores ? ExpertEvent::Kind::kQuarantined : ExpertEvent::Kind::kSkipped));
  happened.faults = gradient.faults;
  if (!restores) return {};
  state.quarantined_until = happened.until = step + settings_.quarantine->steps;
  state.tokens_seen = 0;
  return {IsolatedAction::kRestore};
}

IsolatedDecision ExpertIsolation::accept(IsolatedExpert& state, const IsolatedGradient& gradient,
                                         double global_tokens) const {
  if (settings_.skip_idle && gradient.tokens == 0) return {};
  grow_loss_scale(state);
  state.tokens_seen += gradient.tokens;
  if (state.tokens_seen < static_cast<double>(settings_.accumulate_tokens)) return {IsolatedAction::kKeep};
  IsolatedDecision decision{IsolatedAction::kUpdate};
  const bool normalised = settings_.normalise_by_tokens && state.tokens_seen > 0;
  if (normalised) decision.factor = global_tokens / state.tokens_seen;
  const double norm = std::sqrt(gradient.square) * decision.factor;
  const std::optional<double> most = gradient.rule.clip_norm ? gradient.rule.clip_norm : clip_norm_;
  if (most && norm > *most) decision.factor *= *most / norm;
  state.tokens_seen = 0;
  return decision;
}

void ExpertIsolation::grow_loss_scale(IsolatedExpert& state) const {
  if (!settings_.loss_scale || ++state.good_steps < settings_.loss_scale->growth_interval) return;
  state.loss_scale = std::min(settings_.loss_scale->most, state.loss_scale * settings_.loss_scale->factor);
  state.good_steps = 0;
}

}  // namespace cadre::optim
