#pragma once
// AdamW and SGD over a parameter store. State is kept by segment: each parameter, and each single expert, has its own
// hyper-parameters, step count and gradient norm.

#include <memory>
#include <utility>
#include <vector>

#include "autograd/parameter_store.h"
#include "kernels/optimizer.h"
#include "optim/expert_rules.h"
#include "optim/norm_scope.h"
#include "optim/settings.h"
#include "parallel/data/ownership.h"

namespace cadre::optim {

struct SegmentState {
  std::string name;
  Shape shape;
  int64_t offset = 0;  // elements into the flat storage
  int expert = -1;
  int layer = -1;  // of an expert
  double weight_decay = 0;
  int64_t steps = 0;             // updates made so far
  double gradient_norm = 0;      // of the last step, before clipping
  ExpertRule rule;               // of the last step
  double clip_factor = 1;        // likewise, all kinds of clipping
  parallel::ElementRange owned;  // what this rank counts in the norm, and saves
  parallel::ElementRange kept;   // what it has moments of, and updates
  int64_t state_offset = 0;      // of kept.begin in the moments
  int64_t count() const { return shape.elements(); }
};

struct StepReport {
  double gradient_norm = 0;  // global, before its clipping; of what is not frozen
  double clip_factor = 1;
  bool finite = true;            // false: nothing was updated
  std::string first_non_finite;  // the segment that was not finite
};

// A named part of the optimizer's tensors, for checkpoints: "exp_avg", "exp_avg_sq" or "momentum".
struct MomentTensor {
  const char* name;
  Tensor tensor;  // flat; what is kept of a segment begins at its state_offset
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
            const OptimizerShard& shard = {}, ExpertRules rules = {});

  // One update of what is kept, from gradients that must be complete (summed over ranks) where this rank owns them;
  // with ZeRO, of what is kept. `step` from 1, `total_steps` for the schedule. Non-finite gradients leave parameters
  // and moments untouched.
  StepReport step(int64_t step, int64_t total_steps);

  double learning_rate(int64_t step, int64_t total_steps) const;
  std::vector<SegmentState>& segments() { return segments_; }
  const std::vector<SegmentState>& segments() const { return segments_; }
  std::vector<MomentTensor> moments() const;
  int zero() const { return zero_; }
  // The gradients that step() takes: the store's, or with zero = 2 its own, laid out as the moments.
  const Tensor& gradients() const { return shard_gradients_ ? shard_gradients_ : store_.gradients(); }
  // Where the gradient of what is kept begins in them.
  int64_t gradient_offset(const SegmentState& segment) const;

 private:
  void place_state();
  kernels::StatePlace place_of(const SegmentState& segment) const;
  std::vector<std::vector<double>> owned_squares() const;
  void apply_rules(const std::vector<double>& squares, int64_t step, int64_t total_steps);
  StepReport report_of(const std::vector<double>& squares);
  void update_adamw(double lr);
  void update_sgd(double lr);

  const autograd::Context& context_;
  autograd::ParameterStore& store_;
  OptimizerSettings settings_;
  ExpertRules rules_;
  std::unique_ptr<NormScope> own_norm_;
  NormScope* norm_;
  std::vector<double> factors_;  // by segment of the whole model: of its gradient, before the global norm; frozen: 0
  std::vector<int> groups_;      // likewise: which expert's it is; -1: none's
  std::vector<std::pair<int, int>> experts_;  // by group: layer and id
  const int zero_;
  std::vector<SegmentState> segments_;
  Tensor first_moment_;     // AdamW: m; SGD: momentum
  Tensor second_moment_;    // AdamW: v
  Tensor shard_gradients_;  // zero = 2
};

}  // namespace cadre::optim
