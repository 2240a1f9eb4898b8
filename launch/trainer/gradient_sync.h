#pragma once
// Sums gradients over the ranks that hold the same parameters, while backward still runs: dense ones along data,
// experts along expert_data.

#include <vector>

#include "autograd/parameter_store.h"
#include "parallel/data/reducer.h"
#include "parallel/mesh/mesh.h"

namespace cadre::launch {

class GradientSync {
 public:
  // `store` is materialised and must outlive this, as must `mesh`.
  GradientSync(parallel::Mesh& mesh, const autograd::ParameterStore& store, int64_t bucket_bytes);

  // Before backward of the micro-batch that completes the gradients.
  void start_step();
  // The parameter has its final local gradient.
  void mark_ready(const autograd::Parameter& parameter);
  // Waits for all.
  parallel::ReducerReport finish();

 private:
  struct Slot {
    parallel::Reducer* reducer;
    int64_t index;
  };
  parallel::Reducer dense_, experts_;
  std::vector<Slot> slots_;  // by Parameter::index
};

}  // namespace cadre::launch
