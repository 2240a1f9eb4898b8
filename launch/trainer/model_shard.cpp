#include "launch/trainer/model_shard.h"

#include <algorithm>
#include <numeric>

#include "autograd/parameter_store.h"
#include "model/transformer.h"

namespace cadre::launch {
namespace {

using parallel::Axis;

std::vector<parallel::Placement> placements_of(const model::ExpertLayout& layout, int ranks) {
  std::vector<parallel::Placement> placements;
  for (int64_t layer = 0; layer < layout.layers(); ++layer) {
    placements.push_back(model::placement_of(layout.layer(layer), ranks));
  }
  return placements;
}

model::ExpertShards shards_of(parallel::Mesh& mesh, const std::vector<parallel::Placement>& placements,
                              parallel::DispatchOptions options) {
  parallel::Communicator& group = mesh.along(Axis::kExpert);
  options.exposed = &mesh.exposed_time();
  options.rows_to = &mesh.dispatched_rows();
  std::vector<model::ExpertShard> shards;
  for (const parallel::Placement& placement : placements) {
    if (group.size() == 1) {
      shards.push_back(model::ExpertShard::whole(placement.experts()));
    } else {
      shards.push_back({placement.held_by(group.rank()), parallel::make_group_dispatcher(group, placement, options)});
    }
  }
  return model::ExpertShards(std::move(shards));
}

// Declared, but never allocated.
std::vector<GlobalSegment> all_segments(const model::NetworkSettings& network) {
  autograd::ParameterStore store;
  const model::Transformer whole(store, network);
  std::vector<GlobalSegment> segments;
  int64_t piece = 0;
  for (const auto& parameter : store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      segments.push_back(
          {segment.name, parameter->name, segment.expert, model::layer_of(segment.name), segment.count(), piece});
      piece += parallel::pieces_of(segment.count());
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

std::vector<int> all_of(const parallel::Communicator& group) {
  std::vector<int> ranks(static_cast<size_t>(group.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

}  // namespace

int Holders::index() const {
  if (group == nullptr) return -1;
  const auto found = std::lower_bound(ranks.begin(), ranks.end(), group->rank());
  return found != ranks.end() && *found == group->rank() ? static_cast<int>(found - ranks.begin()) : -1;
}

ModelShard::ModelShard(parallel::Mesh& mesh, const model::NetworkSettings& network, const ShardOptions& options)
    : mesh_(mesh),
      zero_(options.zero),
      tied_(network.model.tie_embeddings),
      placements_(!options.placements.empty() ? options.placements
                                              : placements_of(model::ExpertLayout(network), mesh.layout().expert)),
      stages_(stages_of(mesh, network, options.layers_per_stage)),
      experts_(shards_of(mesh, placements_, options.dispatch)),
      segments_(all_segments(network)) {
  for (size_t i = 0; i < segments_.size(); ++i) index_[segments_[i].name] = i;
}

int64_t ModelShard::parameter_count() const {
  int64_t count = 0;
  for (const GlobalSegment& segment : segments_) count += segment.elements;
  return count;
}

int64_t ModelShard::piece_count() const {
  const GlobalSegment& last = segments_.back();
  return last.first_piece + parallel::pieces_of(last.elements);
}

const parallel::Placement& ModelShard::placement_of(int64_t layer) const {
  return placements_.size() == 1 ? placements_.front() : placements_.at(static_cast<size_t>(layer));
}

int ModelShard::stage_of(const GlobalSegment& segment) const {
  for (size_t i = 0; i < stages_.size(); ++i) {
    const model::StageSpan& stage = stages_[i];
    const bool inside = segment.layer >= stage.begin && segment.layer < stage.end;
    const bool embedding = segment.name == model::kEmbeddingName;
    const bool outside = segment.layer < 0 && (embedding ? stage.first || (tied_ && stage.last) : stage.last);
    if (inside || outside) return static_cast<int>(i);
  }
  return -1;
}

Holders ModelShard::holders_of(const GlobalSegment& segment) const {
  if (stage_of(segment) < 0) return {};
  parallel::Communicator& data = mesh_.along(Axis::kData);
  if (segment.name == model::kEmbeddingName && tied_ && mesh_.layout().pipeline > 1) {
    parallel::Communicator& ends = mesh_.along(Axis::kEmbedding);
    return {&ends, all_of(ends), /*across_stages=*/true, static_cast<size_t>(mesh_.layout().data)};
  }
  return is_placed(segment) ? expert_holders(segment) : Holders{&data, all_of(data)};
}

bool ModelShard::is_placed(const GlobalSegment& segment) const {
  return segment.expert >= 0 && segment.expert < placement_of(segment.layer).experts();
}

Holders ModelShard::expert_holders(const GlobalSegment& segment) const {
  const parallel::Placement& placement = placement_of(segment.layer);
  if (!placement.has_replicas()) {
    parallel::Communicator& alike = mesh_.along(Axis::kExpertData);
    const std::vector<int64_t>& held = placement.held_by(mesh_.here().expert);
    if (!std::binary_search(held.begin(), held.end(), segment.expert)) return {};
    return {&alike, all_of(alike)};
  }
  return {&mesh_.along(Axis::kData), data_ranks_of(segment)};
}

std::vector<int> ModelShard::data_ranks_of(const GlobalSegment& segment) const {
  std::vector<int> ranks;
  for (int group = 0; group < mesh_.layout().expert_data(); ++group) {
    for (const int member : placement_of(segment.layer).holders(segment.expert)) {
      ranks.push_back(group * mesh_.layout().expert + member);
    }
  }
  return ranks;
}

parallel::ElementRange ModelShard::owned_range(const GlobalSegment& segment) const {
  const Holders holders = holders_of(segment);
  return parallel::owned_range(segment.elements, segment.first_piece, holders.index(),
                               static_cast<int>(holders.ranks.size()));
}

}  // namespace cadre::launch
