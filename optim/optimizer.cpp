#include "optim/optimizer.h"

#include <cmath>

#include "kernels/optimizer.h"
#include "optim/schedule.h"

namespace cadre::optim {

Optimizer::Optimizer(const autograd::Context& context, autograd::ParameterStore& store, OptimizerSettings settings,
                     NormScope* norm)
    : context_(context), store_(store), settings_(settings), norm_(norm) {
  for (const auto& parameter : store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      SegmentState state;
      state.name = segment.name;
      state.shape = segment.shape;
      state.offset = parameter->offset + segment.offset;
      state.expert = segment.expert;
      state.weight_decay = parameter->decays ? settings.weight_decay : 0;
      segments_.push_back(std::move(state));
    }
  }
  const Shape flat{store.elements()};
  first_moment_ = Tensor::zeros(context.allocator, context.dtype, flat);
  if (settings.kind == OptimizerKind::kAdamW) second_moment_ = Tensor::zeros(context.allocator, context.dtype, flat);
}

double Optimizer::learning_rate(int64_t step, int64_t total_steps) const {
  return settings_.lr * schedule_factor(settings_.schedule, step, total_steps);
}

std::vector<MomentTensor> Optimizer::moments() const {
  if (settings_.kind == OptimizerKind::kSgd) return {{"momentum", first_moment_}};
  return {{"exp_avg", first_moment_}, {"exp_avg_sq", second_moment_}};
}

GlobalNorm Optimizer::total_of(const std::vector<double>& squares) const {
  if (norm_ != nullptr) return norm_->total(segments_, squares);
  GlobalNorm norm;
  for (size_t i = 0; i < squares.size(); ++i) {
    norm.square += squares[i];
    if (!std::isfinite(squares[i]) && norm.first_non_finite.empty()) norm.first_non_finite = segments_[i].name;
  }
  return norm;
}

StepReport Optimizer::measure() {
  std::vector<kernels::FlatRange> ranges;
  for (const SegmentState& segment : segments_) ranges.push_back({segment.offset, segment.count()});
  std::vector<double> squares(ranges.size());
  kernels::squared_norms(context_.exec, ranges, store_.gradients(), squares);
  for (size_t i = 0; i < squares.size(); ++i) segments_[i].gradient_norm = std::sqrt(squares[i]);
  GlobalNorm norm = total_of(squares);
  StepReport report;
  report.first_non_finite = std::move(norm.first_non_finite);
  report.gradient_norm = std::sqrt(norm.square);
  report.finite = std::isfinite(norm.square);
  if (!report.finite && report.first_non_finite.empty()) report.first_non_finite = "all segments together";
  if (settings_.clip_norm && report.gradient_norm > *settings_.clip_norm) {
    report.clip_factor = *settings_.clip_norm / report.gradient_norm;
  }
  return report;
}

StepReport Optimizer::step(int64_t step, int64_t total_steps) {
  const StepReport report = measure();
  if (!report.finite) return report;
  const double lr = learning_rate(step, total_steps);
  for (SegmentState& segment : segments_) ++segment.steps;
  settings_.kind == OptimizerKind::kAdamW ? update_adamw(lr, report.clip_factor) : update_sgd(lr, report.clip_factor);
  store_.touch();
  return report;
}

void Optimizer::update_adamw(double lr, double clip_factor) {
  std::vector<kernels::AdamWSegment> updates;
  for (const SegmentState& s : segments_) {
    updates.push_back({s.offset, s.count(), lr * s.lr_scale, settings_.beta1, settings_.beta2, settings_.eps,
                       s.weight_decay, s.steps, clip_factor});
  }
  kernels::adamw(context_.exec, updates, store_.values(), store_.gradients(), first_moment_, second_moment_);
}

void Optimizer::update_sgd(double lr, double clip_factor) {
  std::vector<kernels::SgdSegment> updates;
  for (const SegmentState& s : segments_) {
    updates.push_back(
        {s.offset, s.count(), lr * s.lr_scale, settings_.momentum, settings_.nesterov, s.weight_decay, clip_factor});
  }
  kernels::sgd(context_.exec, updates, store_.values(), store_.gradients(), first_moment_);
}

}  // namespace cadre::optim
