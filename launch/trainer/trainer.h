#pragma once
// One training step: micro-batches, reduction, update. Holds no policy; see the observers and the train loop for that.

#include <functional>
#include <memory>
#include <vector>

#include "core/tensor.h"
#include "data/batch.h"
#include "launch/monitor/observer.h"
#include "launch/trainer/gradient_sync.h"
#include "launch/trainer/train_state.h"
#include "parallel/comm/communicator.h"

namespace cadre::launch {

// Looks into the routing of a step, or replays a recorded one: for proofs. Micro-batches count from 0 on each rank.
struct RoutingHooks {
  std::function<const model::RoutingTrace*(int64_t micro_batch)> replay;  // null result: route freely
  std::function<void(int64_t micro_batch, const std::vector<model::RoutingResult>& routing)> record;
};

struct TrainerOptions {
  int64_t total_steps = 0;
  int64_t micro_batches = 1;        // of this rank and step
  double global_target_tokens = 1;  // of one step, all ranks: the loss is their mean
  int64_t bucket_bytes = int64_t{4} << 20;
  bool reset_at_documents = false;
  RoutingHooks routing{};
};

// Votes that travel with a step's statistics, so that all ranks decide alike.
struct Votes {
  bool stop = false;               // any rank wants to stop
  bool checkpoint_written = true;  // every rank has written its part
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

 private:
  struct Totals;
  void run_micro_batch(const data::Batch& batch, int64_t index, Totals& totals);
  void add_routing(const std::vector<model::RoutingResult>& routing, Totals& totals) const;
  Votes share(Totals& totals, const Votes& mine);
  void update_fractions(const Totals& totals);

  const autograd::Context& context_;
  TrainState& state_;
  parallel::Mesh& mesh_;
  TrainerOptions options_;
  GradientSync gradients_;
};

// Token tensors of a loaded batch.
model::TokenBatch to_tokens(const autograd::Context& context, const data::Batch& batch, bool reset_at_documents);
Tensor to_tensor(const autograd::Context& context, const std::vector<int32_t>& values);

}  // namespace cadre::launch
