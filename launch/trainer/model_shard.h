#pragma once
// Which part of the model this rank has, and with whom it shares it.

#include <string>
#include <unordered_map>
#include <vector>

#include "autograd/parameter.h"
#include "model/expert_shard.h"
#include "model/settings.h"
#include "model/stage.h"
#include "parallel/data/ownership.h"
#include "parallel/mesh/mesh.h"

namespace cadre::launch {

// A segment of the whole model, in the order of one rank that has all.
struct GlobalSegment {
  std::string name;
  std::string parameter;  // that it is a part of
  int expert = -1;
  int layer = -1;  // -1: the embedding, or what follows the layers
  int64_t elements = 0;
  int64_t first_piece = 0;  // the number of its first piece among those of the whole model
};

// How layers, experts and state are shared out.
struct ShardOptions {
  // Of each pipeline stage, rank s % pipeline having stage s; empty: all layers, one stage.
  std::vector<int64_t> layers_per_stage{};
  parallel::DispatchOptions dispatch{};
  int zero = 0;  // ZeRO stage
  // Of experts on the mesh's expert axis, one for all layers or one for each; empty: as their groups say, with replicas
  // where there are more ranks than experts.
  std::vector<parallel::Placement> placements{};
};

// Who has a segment: ranks of `group`, ascending.
struct Holders {
  parallel::Communicator* group = nullptr;
  std::vector<int> ranks;
  bool across_stages = false;
  size_t block = 1;  // gradients are summed in a tree over blocks of so many ranks

  // Where this rank stands among them; -1: it does not.
  int index() const;
};

class ModelShard {
 public:
  // `mesh` must outlive the shard.
  ModelShard(parallel::Mesh& mesh, const model::NetworkSettings& network, const ShardOptions& options = {});

  parallel::Mesh& mesh() const { return mesh_; }
  const model::ExpertShards& experts() const { return experts_; }
  // Of this rank, in their order.
  const std::vector<model::StageSpan>& stages() const { return stages_; }
  int zero() const { return zero_; }
  const std::vector<GlobalSegment>& segments() const { return segments_; }
  const GlobalSegment& segment(const std::string& name) const { return segments_[index_.at(name)]; }
  size_t index_of(const std::string& name) const { return index_.at(name); }
  int64_t parameter_count() const;  // of the whole model
  int64_t piece_count() const;      // likewise

  // Which of this rank's stages has a segment, some of its experts' ranks at least; -1: none.
  int stage_of(const GlobalSegment& segment) const;
  // Without a group when this rank has no part in it. Along data for what is dense, but for an embedding that the first
  // and the last stage share. An expert's holders are along expert_data, where no expert of its layer has replicas
  // within an expert group; else they are spread over data.
  Holders holders_of(const GlobalSegment& segment) const;
  // Whether it is of an expert that has its place on some ranks; those that do not compute are everywhere.
  bool is_placed(const GlobalSegment& segment) const;
  // Ranks of the data axis that hold an expert's segment of this stage, ascending; in the order of Holders::ranks.
  std::vector<int> data_ranks_of(const GlobalSegment& segment) const;
  const parallel::Placement& placement_of(int64_t layer) const;
  // What this rank owns of a segment that it holds.
  parallel::ElementRange owned_range(const GlobalSegment& segment) const;

 private:
  Holders expert_holders(const GlobalSegment& segment) const;

  parallel::Mesh& mesh_;
  int zero_;
  bool tied_;
  std::vector<parallel::Placement> placements_;
  std::vector<model::StageSpan> stages_;
  model::ExpertShards experts_;
  std::vector<GlobalSegment> segments_;
  std::unordered_map<std::string, size_t> index_;  // by name
};

}  // namespace cadre::launch
