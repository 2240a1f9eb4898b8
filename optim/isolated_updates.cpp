#include "optim/isolated_updates.h"

#include "kernels/elementwise.h"

namespace cadre::optim {
namespace {

struct Extent {
  int64_t all = 0, adamw = 0;  // elements
};

// What is kept of each after the other, AdamW's first, so that snapshots of second moments are no longer than those.
Extent place_isolated(const ExpertIsolation& isolation, std::vector<SegmentState>& segments) {
  constexpr int64_t kAlignment = 16;  // elements
  Extent extent;
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
    for (SegmentState& segment : segments) {
      if (segment.kind != kind) continue;
      if (segment.expert >= 0) segment.isolated = isolation.index_of(segment.layer, segment.expert);
      if (segment.isolated < 0) continue;
      segment.isolated_offset = extent.all;
      extent.all += (segment.kept.count() + kAlignment - 1) / kAlignment * kAlignment;
    }
    if (kind == OptimizerKind::kAdamW) extent.adamw = extent.all;
  }
  return extent;
}

}  // namespace

IsolatedUpdates::IsolatedUpdates(const autograd::Context& context, ExpertIsolation isolation, Storage storage,
                                 std::vector<SegmentState>& segments)
    : context_(context), isolation_(std::move(isolation)), storage_(std::move(storage)) {
  const Extent extent = place_isolated(isolation_, segments);
  const auto zeros = [&](int64_t count) { return Tensor::zeros(context.allocator, context.dtype, Shape{count}); };
  if (isolation_.settings().accumulate_tokens > 0) kept_ = {"accumulated_gradient", zeros(extent.all), {}, true};
  if (!isolation_.settings().quarantine) return;
  snapshots_.push_back({"snapshot", zeros(extent.all), {}, true});
  const Tensor first = zeros(extent.all);
  for (const MomentTensor& moment : storage_.moments) {
    const Tensor tensor = moment.name == "exp_avg_sq" ? zeros(extent.adamw) : first;
    snapshots_.push_back({"snapshot_" + moment.name, tensor, moment.kind, true});
  }
  start_anew(segments);
}

std::vector<MomentTensor> IsolatedUpdates::tensors() const {
  std::vector<MomentTensor> all = snapshots_;
  if (kept_.tensor) all.push_back(kept_);
  return all;
}

Tensor IsolatedUpdates::gradient_of(const SegmentState& segment) const {
  const int64_t begin = storage_.gradients_like_moments ? segment.state_offset : segment.offset + segment.kept.begin;
  return storage_.gradients.flat_slice(begin, Shape{segment.kept.count()});
}

Tensor IsolatedUpdates::kept_of(const SegmentState& segment) const {
  return kept_.tensor.flat_slice(segment.isolated_offset, Shape{segment.kept.count()});
}

// visit(live, snapshot): of the values, and of each moment.
template <class Visit>
void IsolatedUpdates::each_of_snapshot(const SegmentState& segment, const Visit& visit) const {
  const Shape shape{segment.kept.count()};
  for (size_t i = 0; i < snapshots_.size(); ++i) {
    if (!segment.has(snapshots_[i])) continue;
    const Tensor live = i == 0 ? storage_.values.flat_slice(segment.offset + segment.kept.begin, shape)
                               : storage_.moments[i - 1].tensor.flat_slice(segment.state_offset, shape);
    visit(live, snapshots_[i].tensor.flat_slice(segment.isolated_offset, shape));
  }
}

void IsolatedUpdates::take_snapshot(const SegmentState& segment) {
  each_of_snapshot(segment,
                   [&](const Tensor& live, const Tensor& saved) { kernels::copy(context_.exec, live, saved); });
}

void IsolatedUpdates::restore(const SegmentState& segment) {
  each_of_snapshot(segment,
                   [&](const Tensor& live, const Tensor& saved) { kernels::copy(context_.exec, saved, live); });
}

void IsolatedUpdates::start_anew(const std::vector<SegmentState>& segments) {
  if (kept_.tensor) kernels::fill(context_.exec, kept_.tensor, 0);
  for (const SegmentState& segment : segments) {
    if (segment.isolated >= 0 && segment.kept.count() > 0) take_snapshot(segment);
  }
}

void IsolatedUpdates::prepare(const std::vector<SegmentState>& segments) {
  for (const SegmentState& segment : segments) {
    if (segment.isolated < 0 || segment.kept.count() == 0) continue;
    const double scale = isolation_.state(static_cast<size_t>(segment.isolated)).loss_scale;
    if (scale != 1) kernels::scale(context_.exec, 1 / scale, gradient_of(segment));
    if (kept_.tensor) kernels::accumulate(context_.exec, kept_of(segment), gradient_of(segment));
  }
}

std::vector<ExpertEvent> IsolatedUpdates::decide(int64_t step, double global_tokens,
                                                 const std::vector<IsolatedGradient>& gradients,
                                                 std::vector<SegmentState>& segments) {
  ExpertIsolation::Result result = isolation_.step(step, global_tokens, gradients);
  decisions_ = std::move(result.decisions);
  for (SegmentState& segment : segments) {
    if (segment.isolated < 0) continue;
    const IsolatedDecision& decision = decisions_[static_cast<size_t>(segment.isolated)];
    segment.updates = decision.action == IsolatedAction::kUpdate;
    segment.clip_factor = decision.factor;
  }
  return std::move(result.events);
}

void IsolatedUpdates::finish(std::vector<SegmentState>& segments) {
  for (SegmentState& segment : segments) {
    if (segment.isolated < 0) continue;
    const IsolatedDecision& decision = decisions_[static_cast<size_t>(segment.isolated)];
    const IsolatedAction action = decision.action;
    if (action == IsolatedAction::kRestore) segment.steps = segment.snapshot_steps;
    if (decision.snapshot) segment.snapshot_steps = segment.steps;
    if (segment.kept.count() == 0) continue;
    if (action == IsolatedAction::kRestore) restore(segment);
    if (decision.snapshot) take_snapshot(segment);
    if (!kept_.tensor) continue;
    if (action == IsolatedAction::kKeep) kernels::copy(context_.exec, gradient_of(segment), kept_of(segment));
    const bool emptied = action == IsolatedAction::kUpdate || action == IsolatedAction::kRestore;
    if (emptied) kernels::fill(context_.exec, kept_of(segment), 0);
  }
}

}  // namespace cadre::optim
