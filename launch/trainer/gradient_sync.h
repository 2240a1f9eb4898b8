#pragma once
// Sums gradients over the ranks that hold the same parameters (model_shard.h), while backward still runs, and with ZeRO
// takes updated values from their owners to the other holders: a reducer for each group of ranks.

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "autograd/gradient_tree.h"
#include "launch/trainer/model_shard.h"
#include "optim/optimizer.h"
#include "parallel/data/reducer.h"

namespace cadre::launch {

struct GradientSyncOptions {
  int64_t bucket_bytes = int64_t{4} << 20;
  bool reproducible = false;  // sums in an order that no layout changes (autograd/gradient_tree.h); not with zero = 2
  // For proofs: sees, and may change, this rank's gradient of a step before it is summed over ranks; with zero = 2 that
  // of the step's last micro-batch.
  std::function<void(autograd::Parameter& parameter)> before_reduction{};
};

class GradientSync {
 public:
  // The store is materialised, with zero = 2 without gradients, which then come from here. All must outlive this.
  GradientSync(const autograd::Context& context, const ModelShard& shard, autograd::ParameterStore& store,
               const optim::Optimizer& optimizer, const GradientSyncOptions& options);

  // Before the first backward of a step.
  void start_step();
  // The parameter's local gradient has grown by that of a micro-batch; `last`: it is complete.
  void ready(autograd::Parameter& parameter, bool last);
  // Waits for all. What nothing reached is zero.
  parallel::ReducerReport finish();
  // After the optimizer's step. Returns the seconds that it took.
  double publish();

 private:
  struct Slot {
    parallel::Reducer* reducer;
    int64_t index;
    bool across_stages;
  };
  void sum_other_uses();

  const ModelShard& shard_;

  autograd::ParameterStore& store_;
  const bool by_micro_batch_;  // ZeRO-2
  std::vector<std::unique_ptr<parallel::Reducer>> reducers_;
  std::vector<Slot> slots_;  // by Parameter::index
  std::optional<autograd::GradientTrees> trees_;
  std::function<void(autograd::Parameter& parameter)> before_reduction_;
};

}  // namespace cadre::launch
