#pragma once
// Which isolated experts are updated in a step, and how: each by its own gradient, so that a bad one stops and scales
// nobody else. Arithmetic alone, over all isolated experts of the model; its inputs are sums over all ranks, and so it
// is the same on every rank.

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "model/expert_selector.h"
#include "optim/expert_rules.h"

namespace cadre::optim {

// What a step's experts saw, over all ranks and micro-batches.
struct ExpertTokens {
  double global_targets = 1;                          // of the global batch, over which gradients are means
  std::vector<std::vector<double>> kept{}, faults{};  // [MoE layer][expert]: rows computed; those that were not finite
};

// Of one expert in one step.
struct IsolatedGradient {
  double square = 0;  // squared norm over all its weights, of what an update would use
  double tokens = 0;  // kept by it in this step
  double faults = 0;  // rows of it that were not finite
  ExpertRule rule{};
};

enum class IsolatedAction {
  kNothing,  // the step's gradient is thrown away
  kUpdate,
  kKeep,     // the gradient is kept for a later update
  kRestore,  // back to the snapshot
};

struct IsolatedDecision {
  IsolatedAction action = IsolatedAction::kNothing;
  double factor = 1;      // of the gradient
  bool snapshot = false;  // after the action
};

struct ExpertEvent {
  enum class Kind { kSkipped, kQuarantined, kReadmitted };
  int layer = 0;
  int expert = 0;  // its id
  Kind kind = Kind::kSkipped;
  double faults = 0;  // 0: the gradient's norm was not finite
  int64_t until = 0;  // kQuarantined: the last step without an update
  bool operator==(const ExpertEvent&) const = default;
};

// What an expert's decisions depend on, from step to step.
struct IsolatedExpert {
  double loss_scale = 1;
  int64_t good_steps = 0;         // in a row, at this scale
  double tokens_seen = 0;         // since the last update
  int64_t quarantined_until = 0;  // the last step of it
  int64_t skipped = 0;            // updates, because of bad gradients
  bool operator==(const IsolatedExpert&) const = default;
};

class ExpertIsolation {
 public:
  // Of the experts that are selected, those that compute. `clip_norm`: where the settings say auto. Throws
  // ExpertLayoutError when the selector is wrong or selects nothing.
  ExpertIsolation(model::IsolationSettings settings, const model::ExpertLayout& layout,
                  std::optional<double> clip_norm);

  const model::IsolationSettings& settings() const { return settings_; }
  // By layer, then place; what follows has this order.
  const std::vector<model::ExpertPlace>& experts() const { return experts_; }
  const std::string& name(size_t index) const { return names_[index]; }  // "layers.3.experts.17", by its id
  // -1: it is not isolated.
  int index_of(int64_t layer, int64_t expert) const;

  // Of the backward through an expert in the next step; 1 where there is none.
  double loss_scale(int64_t layer, int64_t expert) const;
  bool quarantined(int64_t layer, int64_t expert, int64_t step) const;

  struct Result {
    std::vector<IsolatedDecision> decisions;
    std::vector<ExpertEvent> events;
  };
  // What experts saw; none where it is not said.
  std::vector<IsolatedGradient> gradients(const ExpertTokens& tokens) const;
  // `global_tokens`: ExpertTokens::global_targets. `step` counts from 1.
  Result step(int64_t step, double global_tokens, const std::vector<IsolatedGradient>& gradients);

  // For checkpoints: what a new expert begins with, and what it has. Of what the settings do not use, nothing is kept.
  IsolatedExpert fresh() const;
  const IsolatedExpert& state(size_t index) const { return states_[index]; }
  void set_state(size_t index, IsolatedExpert state);

 private:
  IsolatedDecision discard(size_t index, const IsolatedGradient& gradient, int64_t step,
                           std::vector<ExpertEvent>& events);
  IsolatedDecision accept(IsolatedExpert& state, const IsolatedGradient& gradient, double global_tokens) const;
  void grow_loss_scale(IsolatedExpert& state) const;
  ExpertEvent event(size_t index, ExpertEvent::Kind kind) const;

  model::IsolationSettings settings_;
  std::optional<double> clip_norm_;
  std::vector<model::ExpertPlace> experts_;
  std::vector<std::string> names_;                    // likewise
  std::vector<int64_t> ids_;                          // likewise
  std::vector<size_t> moe_layers_;                    // likewise: the place of its layer among those with experts
  std::map<std::pair<int64_t, int64_t>, int> index_;  // by layer and id
  std::vector<IsolatedExpert> states_;
};

}  // namespace cadre::optim
