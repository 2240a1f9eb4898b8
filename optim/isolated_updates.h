#pragma once
// What a step does to isolated experts (expert_isolation.h), carried out on what this rank keeps of them.

#include <vector>

#include "autograd/context.h"
#include "optim/expert_isolation.h"
#include "optim/segment_state.h"
#include "optim/settings.h"

namespace cadre::optim {

class IsolatedUpdates {
 public:
  // Where an update reads and writes. Shared with the optimizer.
  struct Storage {
    Tensor values, gradients;
    std::vector<MomentTensor> moments;
    bool gradients_like_moments = false;  // else like the values
  };
  // Gives segments of isolated experts their places. Only those have tensors here: kept gradients where they
  // accumulate, snapshots where there is quarantine.
  IsolatedUpdates(const autograd::Context& context, ExpertIsolation isolation, Storage storage,
                  std::vector<SegmentState>& segments);

  ExpertIsolation& isolation() { return isolation_; }
  const ExpertIsolation& isolation() const { return isolation_; }
  std::vector<MomentTensor> tensors() const;

  // As if nothing had happened before: no kept gradients, and snapshots of what is there now, but for step counts.
  void start_anew(const std::vector<SegmentState>& segments);

  // Before norms are measured: makes the gradients of a step those that an update would use. What is kept is always
  // finite, so that a sum with it is finite if and only if the step's gradient is, but for overflow.
  void prepare(const std::vector<SegmentState>& segments);
  // Tells which segments the update is to leave out, and the factors of the others.
  std::vector<ExpertEvent> decide(int64_t step, double global_tokens, const std::vector<IsolatedGradient>& gradients,
                                  std::vector<SegmentState>& segments);
  // After the update: what is not one.
  void finish(std::vector<SegmentState>& segments);

 private:
  Tensor gradient_of(const SegmentState& segment) const;
  Tensor kept_of(const SegmentState& segment) const;
  void take_snapshot(const SegmentState& segment);
  void restore(const SegmentState& segment);
  template <class Visit>
  void each_of_snapshot(const SegmentState& segment, const Visit& visit) const;

  const autograd::Context& context_;
  ExpertIsolation isolation_;
  Storage storage_;
  MomentTensor kept_;                    // gradients; empty: nothing accumulates
  std::vector<MomentTensor> snapshots_;  // of the values, and of each moment
  std::vector<IsolatedDecision> decisions_;
};

}  // namespace cadre::optim
