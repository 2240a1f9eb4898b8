#pragma once
// AdamW and SGD over a parameter store. State is kept by segment: each parameter, and each single expert, has its own
// hyper-parameters, step count and gradient norm.

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "autograd/parameter_store.h"
#include "kernels/optimizer.h"
#include "optim/expert_rules.h"
#include "optim/isolated_updates.h"
#include "optim/norm_scope.h"
#include "optim/segment_state.h"
#include "optim/settings.h"
#include "parallel/data/ownership.h"

namespace cadre::optim {

// Over all weights of one expert, in one step.
struct ExpertNorms {
  int layer = 0;
  int expert = 0;       // its place
  double gradient = 0;  // before clipping, of what an update would use
  double update = 0;    // of what the update changed; 0 where the expert was not updated
};

struct StepReport {
  double gradient_norm = 0;  // global, before its clipping; of what is neither frozen nor isolated
  double clip_factor = 1;
  bool finite = true;               // false: nothing was updated
  std::string first_non_finite;     // the segment that was not finite
  std::vector<ExpertEvent> events;  // of isolated experts
  std::vector<ExpertNorms> norms;   // of all experts of the model, where they were asked for
};

// Which part of the state this rank has.
struct OptimizerShard {
  int zero = 0;                               // ZeRO stage: 1 keeps moments of what is owned only, 2 gradients, too
  std::vector<parallel::ElementRange> owned;  // by segment of the store; empty: all of them, whole
  NormScope* norm = nullptr;                  // null: nobody has any other segment. Must outlive the optimizer
};

class Optimizer {
 public:
  Optimizer(const autograd::Context& context, autograd::ParameterStore& store, OptimizerSettings settings,
            const OptimizerShard& shard = {}, ExpertRules rules = {},
            std::optional<ExpertIsolation> isolation = std::nullopt);

  // One update of what is kept, from gradients that must be complete (summed over ranks) where this rank owns them;
  // with ZeRO, of what is kept. `step` from 1, `total_steps` for the schedule. Non-finite gradients leave parameters
  // and moments untouched; those of isolated experts stop that expert only. `tokens` are for isolated experts. Norms of
  // experts are measured `with_norms`; it costs a collective and changes no bit.
  StepReport step(int64_t step, int64_t total_steps, const ExpertTokens& tokens = {}, bool with_norms = false);

  double learning_rate(int64_t step, int64_t total_steps) const;
  std::vector<SegmentState>& segments() { return segments_; }
  const std::vector<SegmentState>& segments() const { return segments_; }
  // The same names on every rank.
  std::vector<MomentTensor> moments() const;
  // The moments and what isolated experts have: all that a checkpoint holds besides values.
  std::vector<MomentTensor> state_tensors() const;
  // Null: no expert is isolated.
  IsolatedUpdates* isolated() { return isolated_ ? &*isolated_ : nullptr; }
  int zero() const { return zero_; }
  // Of a segment of the model, here or not: of an expert, or with -1 of anything else.
  OptimizerKind kind_of(int layer, int expert) const { return rules_.optimizer_of(layer, expert, settings_.kind); }
  // The gradients that step() takes: the store's, or with zero = 2 its own, laid out as the moments.
  const Tensor& gradients() const { return shard_gradients_ ? shard_gradients_ : store_.gradients(); }
  // Where the gradient of what is kept begins in them.
  int64_t gradient_offset(const SegmentState& segment) const;

 private:
  void place_state();
  bool uses(OptimizerKind kind) const { return settings_.kind == kind || rules_.uses(kind); }
  kernels::StatePlace place_of(const SegmentState& segment) const;
  std::vector<std::vector<double>> owned_squares() const;
  void divide_by_loss_scales(const ExpertRules::ByExpert& rules);
  void apply_rules(const std::vector<double>& squares, const ExpertRules::ByExpert& rules);
  std::vector<IsolatedGradient> isolated_gradients(const std::vector<double>& squares,
                                                   const ExpertRules::ByExpert& rules,
                                                   const ExpertTokens& tokens) const;
  StepReport report_of(const std::vector<double>& squares);
  std::vector<ExpertNorms> expert_norms(const std::vector<double>& gradient_squares,
                                        const std::vector<double>& changes);
  // Squares of what updates changed, by run of elements and updated segment, of each kind of optimizer.
  struct Changes {
    std::vector<double> adamw{}, sgd{};
  };
  std::vector<std::vector<double>> owned_changes(Changes& changes) const;
  void update_adamw(double lr, std::span<double> changes);
  void update_sgd(double lr, std::span<double> changes);

  const autograd::Context& context_;
  autograd::ParameterStore& store_;
  OptimizerSettings settings_;
  ExpertRules rules_;
  std::unique_ptr<NormScope> own_norm_;
  NormScope* norm_;
  std::vector<double> factors_;  // by segment of the whole model: of its gradient, before the global norm; frozen: 0
  std::vector<int> groups_;      // likewise: which expert's it is; -1: none's
  std::vector<int> isolated_places_;          // likewise: that expert's place among the isolated ones; -1: it is none
  std::vector<std::pair<int, int>> experts_;  // by group: layer and id
  const int zero_;
  std::vector<SegmentState> segments_;
  Tensor first_moment_;     // AdamW: m; SGD: momentum
  Tensor second_moment_;    // AdamW: v; as long as its segments reach
  Tensor shard_gradients_;  // zero = 2
  std::optional<IsolatedUpdates> isolated_;
};

}  // namespace cadre::optim
