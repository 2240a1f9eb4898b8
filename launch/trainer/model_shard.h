#pragma once
// Which part of the model this rank has, and with whom it shares it.

#include <string>
#include <vector>

#include "launch/checkpoint/state.h"
#include "model/expert_shard.h"
#include "model/settings.h"
#include "model/stage.h"
#include "parallel/mesh/mesh.h"

namespace cadre::launch {

// A segment of the whole model, in the order of one rank that has all.
struct GlobalSegment {
  std::string name;
  int expert = -1;
  int64_t elements = 0;
};

// How layers and experts are shared out.
struct ShardOptions {
  // Of each pipeline stage, rank s % pipeline having stage s; empty: all layers, one stage.
  std::vector<int64_t> layers_per_stage{};
  parallel::DispatchOptions dispatch{};
};

class ModelShard {
 public:
  // Experts evenly over the mesh's expert axis. `mesh` must outlive the shard.
  ModelShard(parallel::Mesh& mesh, const model::NetworkSettings& network, const ShardOptions& options = {});

  parallel::Mesh& mesh() const { return mesh_; }
  const model::ExpertShard& experts() const { return experts_; }
  // Of this rank, in their order.
  const std::vector<model::StageSpan>& stages() const { return stages_; }
  const std::vector<GlobalSegment>& segments() const { return segments_; }
  int64_t parameter_count() const;  // of the whole model
  // Whether this rank has all of it.
  bool whole() const { return mesh_.layout().expert == 1 && mesh_.layout().pipeline == 1; }

  // The axis along which ranks hold the same values: experts' expert_data; data for what is dense, but for an embedding
  // that the first and the last stage share.
  parallel::Axis axis_of(const std::string& segment, int expert) const;
  struct Place {
    int index = 0;
    int count = 1;
    bool first() const { return index == 0; }
  };
  Place place_of(const std::string& segment, int expert) const;

 private:
  parallel::Mesh& mesh_;
  model::ExpertShard experts_;
  std::vector<model::StageSpan> stages_;
  bool shares_embedding_;
  std::vector<GlobalSegment> segments_;
};

}  // namespace cadre::launch
