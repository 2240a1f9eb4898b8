#include "launch/trainer/gradient_sync.h"

namespace cadre::launch {
namespace {

using parallel::Axis;

// A bucket may run over the padding between neighbours, but not over a parameter of another axis.
parallel::ReducerOptions options_for(const autograd::ParameterStore& store, int64_t bucket_bytes) {
  const auto element = static_cast<int64_t>(size_of(store.gradients().dtype()));
  return {.bucket_bytes = bucket_bytes, .largest_gap = 64 / element - 1};
}

}  // namespace

GradientSync::GradientSync(const ModelShard& shard, const autograd::ParameterStore& store, int64_t bucket_bytes)
    : slots_(store.parameters().size()) {
  for (const Axis axis : {Axis::kData, Axis::kExpertData, Axis::kEmbedding}) {
    std::vector<parallel::GradientRange> ranges;
    std::vector<size_t> members;
    // Backward finishes parameters in reverse order of declaration.
    for (size_t i = slots_.size(); i-- > 0;) {
      const autograd::Parameter& parameter = *store.parameters()[i];
      if (shard.axis_of(parameter.name, parameter.segments.front().expert) != axis) continue;
      ranges.push_back({parameter.offset, parameter.shape.elements()});
      members.push_back(i);
    }
    if (members.empty()) continue;
    reducers_.push_back(std::make_unique<parallel::Reducer>(shard.mesh().along(axis), store.gradients(), ranges,
                                                            options_for(store, bucket_bytes)));
    for (size_t k = 0; k < members.size(); ++k) {
      slots_[members[k]] = {reducers_.back().get(), static_cast<int64_t>(k)};
    }
  }
}

void GradientSync::start_step() {
  for (const auto& reducer : reducers_) reducer->start_step();
}

void GradientSync::ready(autograd::Parameter& parameter, bool last) {
  if (!last) return;
  parameter.zero_gradient_if_empty();  // before its bucket may be reduced
  const Slot& slot = slots_[static_cast<size_t>(parameter.index)];
  slot.reducer->mark_ready(slot.index);
}

parallel::ReducerReport GradientSync::finish() {
  parallel::ReducerReport report;
  for (const auto& reducer : reducers_) {
    const parallel::ReducerReport part = reducer->finish();
    report.buckets += part.buckets;
    report.bytes += part.bytes;
    report.started_before_finish += part.started_before_finish;
    report.exposed_seconds += part.exposed_seconds;
    report.start_seconds += part.start_seconds;
  }
  return report;
}

}  // namespace cadre::launch
