#pragma once
// Sums gradients over the ranks that hold the same parameters, while backward still runs, each along its axis
// (model_shard.h).

#include <memory>
#include <vector>

#include "autograd/parameter_store.h"
#include "launch/trainer/model_shard.h"
#include "parallel/data/reducer.h"

namespace cadre::launch {

class GradientSync {
 public:
  // `store` is materialised and must outlive this, as must `shard`.
  GradientSync(const ModelShard& shard, const autograd::ParameterStore& store, int64_t bucket_bytes);

  // Before the first backward.
  void start_step();
  // The parameter's local gradient has grown by that of a micro-batch; `last`: it is complete.
  void ready(autograd::Parameter& parameter, bool last);
  // Waits for all.
  parallel::ReducerReport finish();

 private:
  struct Slot {
    parallel::Reducer* reducer;
    int64_t index;
  };
  std::vector<std::unique_ptr<parallel::Reducer>> reducers_;  // by axis
  std::vector<Slot> slots_;                                   // by Parameter::index
};

}  // namespace cadre::launch
