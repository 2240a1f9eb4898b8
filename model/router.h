#pragma once
// The router of a layer: a config's scores, choice, gates and auxiliary losses, as ops on a tape.

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "model/expert_layout.h"
#include "model/routing.h"
#include "model/settings.h"

namespace cadre::model {

// Those of step `step` of a run of `steps`.
BalanceWeights balance_weights(const BalanceSettings& settings, int64_t step, int64_t steps);

class LayerRouter {
 public:
  // Settings and experts must outlive it.
  LayerRouter(autograd::ParameterStore& store, const NetworkSettings& settings, const LayerExperts& experts,
              int64_t layer);

  struct Routed {
    autograd::Variable ids;      // i32 [tokens, places]
    autograd::Variable weights;  // [tokens, places]
    RoutingResult result;        // but for what the rows tell
  };
  // x [tokens, hidden]. `replay`: ids i32 [tokens, places] to route by, or empty.
  Routed forward(autograd::Tape& tape, const ForwardOptions& options, const autograd::Variable& x, const Tensor& replay,
                 const LayerControls& controls) const;

 private:
  struct Scored {
    autograd::Variable scores, lse;
    autograd::Variable logits{}, spread{}, noisy{};  // of a noisy router, in training
  };
  autograd::Variable logits(autograd::Tape& tape, const autograd::Variable& x) const;
  Scored score(autograd::Tape& tape, const ForwardOptions& options, autograd::Variable x,
               const autograd::Variable& bias) const;
  void choose(autograd::Tape& tape, const ForwardOptions& options, const autograd::Variable& scores,
              const Tensor& replay, const LayerControls& controls, Routed& routed) const;
  // Scores as a distribution over experts, for losses.
  autograd::Variable shares(autograd::Tape& tape, const autograd::Variable& scores) const;
  void add_losses(autograd::Tape& tape, const ForwardOptions& options, const Scored& scored,
                  const LayerControls& controls, Routed& routed) const;
  uint64_t stream(const ForwardOptions& options) const;
  kernels::Choice choice(const ForwardOptions& options) const;

  const RouterSettings& settings_;
  const BalanceSettings& balance_;
  const LayerExperts& experts_;
  int64_t layer_;
  autograd::Parameter* weight_;            // [experts, hidden]; with keys, [experts, key_size]
  autograd::Parameter* query_ = nullptr;   // [key_size, hidden], with keys
  autograd::Parameter* groups_ = nullptr;  // [groups, hidden], with two levels
  autograd::Parameter* noise_ = nullptr;   // [experts, hidden], with noise
  BalanceWeights first_;                   // of step 1 of 1
};

}  // namespace cadre::model
