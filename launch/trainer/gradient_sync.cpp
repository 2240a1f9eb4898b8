#include "launch/trainer/gradient_sync.h"

namespace cadre::launch {
namespace {

using parallel::Axis;

bool is_expert(const autograd::Parameter& parameter) { return parameter.segments.front().expert >= 0; }

// Backward finishes parameters in reverse order of declaration.
std::vector<parallel::GradientRange> backward_order(const autograd::ParameterStore& store, bool experts) {
  std::vector<parallel::GradientRange> ranges;
  const auto& parameters = store.parameters();
  for (size_t i = parameters.size(); i-- > 0;) {
    if (is_expert(*parameters[i]) != experts) continue;
    ranges.push_back({parameters[i]->offset, parameters[i]->shape.elements()});
  }
  return ranges;
}

// A bucket may run over the padding between neighbours, but not over a parameter of the other kind.
parallel::ReducerOptions options_for(const autograd::ParameterStore& store, int64_t bucket_bytes) {
  const auto element = static_cast<int64_t>(size_of(store.gradients().dtype()));
  return {.bucket_bytes = bucket_bytes, .largest_gap = 64 / element - 1};
}

}  // namespace

GradientSync::GradientSync(parallel::Mesh& mesh, const autograd::ParameterStore& store, int64_t bucket_bytes)
    : dense_(mesh.along(Axis::kData), store.gradients(), backward_order(store, false),
             options_for(store, bucket_bytes)),
      experts_(mesh.along(Axis::kExpertData), store.gradients(), backward_order(store, true),
               options_for(store, bucket_bytes)),
      slots_(store.parameters().size()) {
  int64_t next_dense = 0, next_expert = 0;
  for (size_t i = slots_.size(); i-- > 0;) {
    const bool expert = is_expert(*store.parameters()[i]);
    slots_[i] = expert ? Slot{&experts_, next_expert++} : Slot{&dense_, next_dense++};
  }
}

void GradientSync::start_step() {
  dense_.start_step();
  experts_.start_step();
}

void GradientSync::mark_ready(const autograd::Parameter& parameter) {
  const Slot& slot = slots_[static_cast<size_t>(parameter.index)];
  slot.reducer->mark_ready(slot.index);
}

parallel::ReducerReport GradientSync::finish() {
  parallel::ReducerReport report = dense_.finish();
  const parallel::ReducerReport experts = experts_.finish();
  report.buckets += experts.buckets;
  report.bytes += experts.bytes;
  report.started_before_finish += experts.started_before_finish;
  report.exposed_seconds += experts.exposed_seconds;
  report.start_seconds += experts.start_seconds;
  return report;
}

}  // namespace cadre::launch
