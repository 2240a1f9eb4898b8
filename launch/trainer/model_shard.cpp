#include "launch/trainer/model_shard.h"

#include "autograd/parameter_store.h"
#include "model/transformer.h"

namespace cadre::launch {
namespace {

using parallel::Axis;

model::ExpertShard shard_of(parallel::Mesh& mesh, int64_t experts, parallel::DispatchOptions options) {
  parallel::Communicator& group = mesh.along(Axis::kExpert);
  if (group.size() == 1) return model::ExpertShard::whole(experts);
  const auto placement = parallel::Placement::even(experts, group.size());
  return {placement.held_by(group.rank()), parallel::make_all_to_all_dispatcher(group, placement, options)};
}

// Declared, but never allocated.
std::vector<GlobalSegment> all_segments(const model::NetworkSettings& network) {
  autograd::ParameterStore store;
  const model::Transformer whole(store, network);
  std::vector<GlobalSegment> segments;
  for (const auto& parameter : store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      segments.push_back({segment.name, segment.expert, segment.count()});
    }
  }
  return segments;
}

}  // namespace

ModelShard::ModelShard(parallel::Mesh& mesh, const model::NetworkSettings& network, parallel::DispatchOptions dispatch)
    : mesh_(mesh), experts_(shard_of(mesh, network.moe.num_experts, dispatch)), segments_(all_segments(network)) {}

int64_t ModelShard::parameter_count() const {
  int64_t count = 0;
  for (const GlobalSegment& segment : segments_) count += segment.elements;
  return count;
}

ModelShard::Place ModelShard::place_of(int expert) const {
  const parallel::Communicator& group = mesh_.along(expert < 0 ? Axis::kData : Axis::kExpertData);
  return {group.rank(), group.size()};
}

}  // namespace cadre::launch
