#pragma once
// The computation of one training step on one rank: its stages' forwards and backwards, in whatever order the schedule
// wants them.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "autograd/tape.h"
#include "data/batch.h"
#include "launch/trainer/train_state.h"
#include "launch/trainer/tree_sum.h"
#include "parallel/pipeline/interpreter.h"

namespace cadre::launch {

// Looks into the routing of a step, or replays a recorded one: for proofs. Micro-batches count from 0 on each rank.
struct RoutingHooks {
  // By MoE layer of the whole model. Null result: route freely.
  std::function<const model::RoutingTrace*(int64_t micro_batch)> replay;
  // Once for each stage; the layers are those of the stage.
  std::function<void(int64_t micro_batch, const std::vector<model::RoutingResult>& routing)> record;
};

struct StepOptions {
  int64_t micro_batches = 1;
  double global_target_tokens = 1;
  bool reset_at_documents = false;
  RoutingHooks routing{};
  // Set by the trainer, for each step.
  std::optional<model::BalanceWeights> balance{};
  std::vector<model::LayerControls> controls{};  // by MoE layer of the whole model
  int64_t first_micro_batch = 0;                 // of this rank, in the global batch
  bool measure_experts = false;
};

// Sums over this rank's stages and micro-batches.
struct StepTotals {
  TreeSum loss;
  std::vector<TreeSum> balance_loss, z_loss;  // by MoE layer of the whole model
  // Likewise, where a loss needs them: gate weights of each expert, then smooth loads of each.
  std::vector<std::vector<TreeSum>> loads;
  // Where experts choose tokens, by MoE layer: the lowest keys that each took, then in how many micro-batches it did.
  std::vector<std::vector<TreeSum>> lowest;
  double data_wait = 0;
  std::vector<std::vector<double>> counts;  // likewise: choices of each expert (exact in f64)
  std::vector<std::vector<double>> kept;    // as counts: rows that the expert computes
  std::vector<std::vector<double>> faults;  // likewise: those that were not finite
  // In steps that measure experts, by MoE layer: sums of what kernels::score_totals gives.
  std::vector<std::vector<double>> score_totals;
};

class StepWork final : public parallel::StageWork {
 public:
  // A parameter's gradient of one micro-batch and stage is complete; `last`: so is that of the step.
  using Ready = std::function<void(autograd::Parameter& parameter, bool last)>;

  // `next_batch` gives this rank's micro-batches in order. `ranks`: of the pipeline, so that stage s is here the
  // (s / ranks)-th.
  StepWork(const autograd::Context& context, TrainState& state, const StepOptions& options, int ranks,
           std::function<data::Batch()> next_batch, Ready ready);

  autograd::TensorSpec stream(int micro_batch) override;
  Tensor forward(int stage, int micro_batch, Tensor input) override;
  Tensor backward(int stage, int micro_batch, Tensor gradient, autograd::BackwardPart part) override;
  void backward_weights(int stage, int micro_batch) override;

  const StepTotals& totals() const { return totals_; }

 private:
  // A (stage, micro-batch) between its forward and the end of its backward.
  struct InFlight {
    std::unique_ptr<autograd::Tape> tape;
    autograd::Variable input, output;  // empty at the ends of the model
    std::vector<autograd::Tape::Seed> losses;
    // By place among the MoE layers: filled by the backward.
    std::vector<std::pair<size_t, std::shared_ptr<autograd::RowFaults>>> faults{};
  };
  struct Loaded {
    data::Batch batch;
    size_t readers = 0;  // stages here that have not had it
  };

  void load(int micro_batch);
  void release(int micro_batch);
  void add_loss(InFlight& flight, model::TransformerOutput& output, const data::Batch& batch);
  void add_routing(InFlight& flight, const std::vector<model::RoutingResult>& routing);
  void on_ready(autograd::Parameter& parameter);

  const autograd::Context& context_;
  TrainState& state_;
  const StepOptions& options_;
  int ranks_;
  std::function<data::Batch()> next_batch_;
  Ready ready_;
  std::map<int, Loaded> batches_;
  std::vector<int64_t> rows_;  // tokens of each micro-batch loaded so far
  std::map<std::pair<int, int>, InFlight> in_flight_;
  std::map<const autograd::Parameter*, int64_t> contributions_;
  StepTotals totals_;
};

// Token tensors of a loaded batch.
model::TokenBatch to_tokens(const autograd::Context& context, const data::Batch& batch, bool reset_at_documents);
Tensor to_tensor(const autograd::Context& context, const std::vector<int32_t>& values);

}  // namespace cadre::launch
