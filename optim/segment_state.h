#pragma once
// The optimizer's state of each segment: each parameter, and each single expert's.

#include <optional>
#include <string>

#include "core/tensor.h"
#include "optim/expert_rules.h"
#include "optim/settings.h"
#include "parallel/data/ownership.h"

namespace cadre::optim {

// A named part of the optimizer's tensors, for checkpoints: "exp_avg", "exp_avg_sq" and "momentum", each of segments of
// one kind, and what isolated experts alone have. "exp_avg" and "momentum" share a tensor where both are in use.
struct MomentTensor {
  std::string name;
  Tensor tensor;                        // flat; what is kept of a segment begins at its offset_in()
  std::optional<OptimizerKind> kind{};  // of the segments that have it; none: all
  bool isolated = false;
};

struct SegmentState {
  std::string name;
  Shape shape;
  int64_t offset = 0;  // elements into the flat storage
  int expert = -1;
  int layer = -1;  // of an expert
  OptimizerKind kind = OptimizerKind::kAdamW;
  double weight_decay = 0;
  int64_t steps = 0;             // updates made so far
  double gradient_norm = 0;      // of the last step, before clipping
  ExpertRule rule;               // of the last step
  bool updates = true;           // likewise: neither frozen nor left out
  double clip_factor = 1;        // likewise, all kinds of clipping
  parallel::ElementRange owned;  // what this rank counts in the norm, and saves
  parallel::ElementRange kept;   // what it has moments of, and updates
  int64_t state_offset = 0;      // of kept.begin in the moments
  int isolated = -1;             // its expert's place among ExpertIsolation::experts(); -1: it is not isolated
  int64_t isolated_offset = 0;   // of kept.begin in what isolated experts alone have
  int64_t snapshot_steps = 0;    // `steps` when its snapshot was taken

  int64_t count() const { return shape.elements(); }
  bool has(const MomentTensor& moment) const {
    return (!moment.isolated || isolated >= 0) && moment.kind.value_or(kind) == kind;
  }
  int64_t offset_in(const MomentTensor& moment) const { return moment.isolated ? isolated_offset : state_offset; }
};

}  // namespace cadre::optim
