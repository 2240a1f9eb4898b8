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

std::vector<model::StageSpan> stages_of(const parallel::Mesh& mesh, const model::NetworkSettings& network,
                                        const std::vector<int64_t>& layers_per_stage) {
  if (layers_per_stage.empty()) return {model::StageSpan::whole(network.model.num_layers)};
  const std::vector<model::StageSpan> all = model::stage_spans(layers_per_stage);
  std::vector<model::StageSpan> mine;
  const auto ranks = static_cast<size_t>(mesh.layout().pipeline);
  for (size_t stage = static_cast<size_t>(mesh.here().stage); stage < all.size(); stage += ranks) {
    mine.push_back(all[stage]);
  }
  return mine;
}

}  // namespace

ModelShard::ModelShard(parallel::Mesh& mesh, const model::NetworkSettings& network, const ShardOptions& options)
    : mesh_(mesh),
      experts_(shard_of(mesh, network.moe.num_experts, options.dispatch)),
      stages_(stages_of(mesh, network, options.layers_per_stage)),
      shares_embedding_(network.model.tie_embeddings && mesh.layout().pipeline > 1),
      segments_(all_segments(network)) {}

int64_t ModelShard::parameter_count() const {
  int64_t count = 0;
  for (const GlobalSegment& segment : segments_) count += segment.elements;
  return count;
}

Axis ModelShard::axis_of(const std::string& segment, int expert) const {
  if (expert >= 0) return Axis::kExpertData;
  return shares_embedding_ && segment == model::kEmbeddingName ? Axis::kEmbedding : Axis::kData;
}

ModelShard::Place ModelShard::place_of(const std::string& segment, int expert) const {
  const parallel::Communicator& group = mesh_.along(axis_of(segment, expert));
  return {group.rank(), group.size()};
}

}  // namespace cadre::launch
