#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>

#include "optim/schedule.h"

namespace cadre::optim {

Optimizer::Optimizer(const autograd::Context& context, autograd::ParameterStore& store, OptimizerSettings settings,
                     const OptimizerShard& shard)
    : context_(context), store_(store), settings_(settings), norm_(shard.norm), zero_(shard.zero) {
  for (const auto& parameter : store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      SegmentState state;
      state.name = segment.name;
      state.shape = segment.shape;
      state.offset = parameter->offset + segment.offset;
      state.expert = segment.expert;
      state.weight_decay = parameter->decays ? settings.weight_decay : 0;
      state.owned = {0, state.count()};
      if (!shard.owned.empty()) state.owned = shard.owned.at(segments_.size());
      segments_.push_back(std::move(state));
    }
  }
  place_state();
}

// Whole: laid out as the parameters. Sharded: what is owned of each segment after the other.
void Optimizer::place_state() {
  constexpr int64_t kAlignment = 16;  // elements
  int64_t elements = 0;
  for (SegmentState& segment : segments_) {
    segment.kept = zero_ > 0 ? segment.owned : parallel::ElementRange{0, segment.count()};
    segment.state_offset = zero_ > 0 ? elements : segment.offset;
    elements += (segment.kept.count() + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (zero_ == 0) elements = store_.elements();
  const auto zeros = [&] { return Tensor::zeros(context_.allocator, context_.dtype, Shape{elements}); };
  first_moment_ = zeros();
  if (settings_.kind == OptimizerKind::kAdamW) second_moment_ = zeros();
  if (zero_ == 2) shard_gradients_ = zeros();
}

int64_t Optimizer::gradient_offset(const SegmentState& segment) const {
  return shard_gradients_ ? segment.state_offset : segment.offset + segment.kept.begin;
}

kernels::StatePlace Optimizer::place_of(const SegmentState& segment) const {
  return {segment.offset + segment.kept.begin, gradient_offset(segment), segment.state_offset, segment.kept.count()};
}

double Optimizer::learning_rate(int64_t step, int64_t total_steps) const {
  return settings_.lr * schedule_factor(settings_.schedule, step, total_steps);
}

std::vector<MomentTensor> Optimizer::moments() const {
  if (settings_.kind == OptimizerKind::kSgd) return {{"momentum", first_moment_}};
  return {{"exp_avg", first_moment_}, {"exp_avg_sq", second_moment_}};
}

std::vector<std::vector<double>> Optimizer::owned_squares() const {
  std::vector<kernels::FlatRange> ranges;
  for (const SegmentState& segment : segments_) {
    const int64_t first = gradient_offset(segment) - segment.kept.begin;
    for (int64_t begin = segment.owned.begin; begin < segment.owned.end; begin += parallel::kPieceElements) {
      ranges.push_back({first + begin, std::min(parallel::kPieceElements, segment.owned.end - begin)});
    }
  }
  std::vector<double> squares(ranges.size());
  kernels::squared_norms(context_.exec, ranges, gradients(), squares);
  std::vector<std::vector<double>> pieces;
  auto next = squares.begin();
  for (const SegmentState& segment : segments_) {
    const auto end = next + parallel::pieces_of(segment.owned.count());
    pieces.emplace_back(next, end);
    next = end;
  }
  return pieces;
}

GlobalNorm Optimizer::total_of(const std::vector<std::vector<double>>& pieces) const {
  if (norm_ != nullptr) return norm_->total(segments_, pieces);
  GlobalNorm norm;
  for (size_t i = 0; i < pieces.size(); ++i) {
    std::vector<double> squares = pieces[i];
    norm.segments.push_back(kernels::tree_sum(squares));
    norm.square += norm.segments.back();
    if (!std::isfinite(norm.segments.back()) && norm.first_non_finite.empty()) {
      norm.first_non_finite = segments_[i].name;
    }
  }
  return norm;
}

StepReport Optimizer::measure() {
  GlobalNorm norm = total_of(owned_squares());
  for (size_t i = 0; i < segments_.size(); ++i) segments_[i].gradient_norm = std::sqrt(norm.segments[i]);
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
    updates.push_back({place_of(s), lr * s.lr_scale, settings_.beta1, settings_.beta2, settings_.eps, s.weight_decay,
                       s.steps, clip_factor});
  }
  kernels::adamw(context_.exec, updates, store_.values(), gradients(), first_moment_, second_moment_);
}

void Optimizer::update_sgd(double lr, double clip_factor) {
  std::vector<kernels::SgdSegment> updates;
  for (const SegmentState& s : segments_) {
    updates.push_back(
        {place_of(s), lr * s.lr_scale, settings_.momentum, settings_.nesterov, s.weight_decay, clip_factor});
  }
  kernels::sgd(context_.exec, updates, store_.values(), gradients(), first_moment_);
}

}  // namespace cadre::optim
