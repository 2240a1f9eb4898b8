#pragma once
// AdamW and SGD over a parameter store. State is kept by segment: each parameter, and each single expert, has its own
// hyper-parameters, step count and gradient norm.

#include <vector>

#include "autograd/parameter_store.h"
#include "optim/norm_scope.h"
#include "optim/settings.h"

namespace cadre::optim {

struct SegmentState {
  std::string name;
  Shape shape;
  int64_t offset = 0;  // elements into the flat storage
  int expert = -1;
  double lr_scale = 1;
  double weight_decay = 0;
  int64_t steps = 0;         // updates made so far
  double gradient_norm = 0;  // of the last step, before clipping
  int64_t count() const { return shape.elements(); }
};

struct StepReport {
  double gradient_norm = 0;  // global, before clipping
  double clip_factor = 1;
  bool finite = true;            // false: nothing was updated
  std::string first_non_finite;  // the segment that was not finite
};

// A named part of the optimizer's tensors, for checkpoints: "exp_avg", "exp_avg_sq" or "momentum".
struct MomentTensor {
  const char* name;
  Tensor tensor;  // flat, laid out as the parameters
};

class Optimizer {
 public:
  // `norm`: how the ranks' norms become one; null when this rank has all segments. Must outlive the optimizer.
  Optimizer(const autograd::Context& context, autograd::ParameterStore& store, OptimizerSettings settings,
            NormScope* norm = nullptr);

  // One update from the store's gradients, which must be complete (summed over ranks). `step` from 1, `total_steps` for
  // the schedule. Non-finite gradients leave parameters and moments untouched.
  StepReport step(int64_t step, int64_t total_steps);

  double learning_rate(int64_t step, int64_t total_steps) const;
  std::vector<SegmentState>& segments() { return segments_; }
  const std::vector<SegmentState>& segments() const { return segments_; }
  std::vector<MomentTensor> moments() const;

 private:
  StepReport measure();
  GlobalNorm total_of(const std::vector<double>& squares) const;
  void update_adamw(double lr, double clip_factor);
  void update_sgd(double lr, double clip_factor);

  const autograd::Context& context_;
  autograd::ParameterStore& store_;
  OptimizerSettings settings_;
  NormScope* norm_;
  std::vector<SegmentState> segments_;
  Tensor first_moment_;   // AdamW: m; SGD: momentum
  Tensor second_moment_;  // AdamW: v
};

}  // namespace cadre::optim
