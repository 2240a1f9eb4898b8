#pragma once
// A candidate's stages, as the blocks that they are made of.

#include <vector>

#include "launch/plan/estimate.h"
#include "parallel/pipeline/memory.h"
#include "parallel/pipeline/schedule.h"

namespace cadre::launch {

// Of the flat storage of a rank, padding included.
struct Elements {
  // Parameters that the same ranks hold.
  struct Part {
    double count = 0, pieces = 0;
    double largest = 0;  // elements of the largest parameter
    double copies = 1;   // within an expert group: harmonic mean
    // What the rank that owns most of it owns, of so many that hold it.
    double owned(int holders) const;
  };
  Part dense, experts;
  Part embedding;  // where stages share it, and then not in `dense`
  double all() const { return dense.count + experts.count + embedding.count; }
};

class StagePlan {
 public:
  // `profile` must outlive the plan.
  StagePlan(const ModelProfile& profile, const model::NetworkSettings& network, const parallel::ScheduleShape& shape,
            const std::vector<int64_t>& layers_per_stage);

  const parallel::ScheduleShape& shape() const { return shape_; }
  int stages() const { return shape_.stages(); }
  const std::vector<const BlockProfile*>& blocks(int stage) const { return blocks_[static_cast<size_t>(stage)]; }
  // Of all the stages of a pipeline rank.
  std::vector<const BlockProfile*> blocks_of_rank(int rank) const;
  Elements elements(int rank) const;
  int64_t pieces() const;  // of the whole model
  const ModelProfile& profile() const { return profile_; }

  // What a stage holds from the forward of a micro-batch to its backward, and the most that it uses besides.
  parallel::StageMemory memory(int stage) const;
  double transient(int stage) const;
  // With as many micro-batches as it takes to fill the pipeline: what is in flight does not grow after that, unless
  // all of them are.
  const parallel::Schedule& schedule() const { return schedule_; }
  // The most activations of a pipeline rank.
  std::vector<double> peak_activations() const;

 private:
  const ModelProfile& profile_;
  bool tied_;
  parallel::ScheduleShape shape_;
  parallel::Schedule schedule_;
  std::vector<std::vector<const BlockProfile*>> blocks_;  // [stage]
};

}  // namespace cadre::launch
