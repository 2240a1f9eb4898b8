#pragma once
// One training step: micro-batches, reduction, update. Holds no policy; see the observers and the train loop for that.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launch/monitor/observer.h"
#include "launch/trainer/gradient_sync.h"
#include "launch/trainer/shared_totals.h"
#include "launch/trainer/step_work.h"
#include "launch/trainer/train_state.h"
#include "parallel/mesh/mesh.h"
#include "parallel/pipeline/interpreter.h"

namespace cadre::launch {

struct TrainerOptions {
  int64_t total_steps = 0;
  StepOptions step{};
  parallel::ScheduleShape schedule{};  // its ranks and micro-batches are those of the layout and of the step
  GradientSyncOptions gradients{};
  int64_t experts_every = 0;  // steps between those that measure experts, as step 1 does; 0: none does
  // Of one rank of each host: joules that the host has used since the last call; none: not known.
  std::function<std::optional<double>()> joules{};
};

struct StepOutcome {
  StepMetrics metrics;
  Votes votes;
  bool finite = true;
  std::string non_finite;  // what was not finite
};

class Trainer {
 public:
  Trainer(const autograd::Context& context, TrainState& state, parallel::Mesh& mesh, TrainerOptions options);

  // Runs step state.step + 1; next_batch() gives this rank's micro-batches in order. Advances state.step unless the
  // gradients were not finite.
  StepOutcome step(const std::function<data::Batch()>& next_batch, const Votes& mine);
  // When each compute action of the last step began and ended.
  const std::vector<parallel::TimedAction>& times() const { return interpreter_.times(); }

 private:
  SharedTotals share(const StepTotals& totals, const Votes& mine) const;
  // What steers the routing of step `step`.
  void steer(int64_t step);
  // And of the next one, by this one's; and what is remembered of experts.
  void update_controls(const SharedTotals& shared);
  void update_threshold(double& threshold, const std::vector<double>& lowest, size_t expert) const;
  StepMetrics metrics_of(const SharedTotals& shared, const optim::StepReport& update, int64_t step) const;
  void add_isolation(StepMetrics& metrics) const;

  const autograd::Context& context_;
  TrainState& state_;
  parallel::Mesh& mesh_;
  TrainerOptions options_;
  bool measures_loads_ = false;  // a balance loss needs those of the global batch
  bool experts_choose_ = false;  // tokens, by thresholds where it is not training
  GradientSync gradients_;
  parallel::Interpreter interpreter_;
};

}  // namespace cadre::launch
