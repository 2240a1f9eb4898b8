#pragma once
// Which part of the model this rank has, and with whom it shares it.

#include <string>
#include <vector>

#include "launch/checkpoint/state.h"
#include "model/expert_shard.h"
#include "model/settings.h"
#include "parallel/mesh/mesh.h"

namespace cadre::launch {

// A segment of the whole model, in the order of one rank that has all.
struct GlobalSegment {
  std::string name;
  int expert = -1;
  int64_t elements = 0;
};

class ModelShard {
 public:
  // Experts evenly over the mesh's expert axis. `mesh` must outlive the shard.
  ModelShard(parallel::Mesh& mesh, const model::NetworkSettings& network, parallel::DispatchOptions dispatch = {});

  parallel::Mesh& mesh() const { return mesh_; }
  const model::ExpertShard& experts() const { return experts_; }
  const std::vector<GlobalSegment>& segments() const { return segments_; }
  int64_t parameter_count() const;  // of the whole model
  // Whether this rank has all of it.
  bool whole() const { return mesh_.layout().expert == 1 && mesh_.layout().pipeline == 1; }

  // Among the ranks that hold the same values: dense parameters (-1) along data, an expert's along expert_data.
  struct Place {
    int index = 0;
    int count = 1;
    bool first() const { return index == 0; }
  };
  Place place_of(int expert) const;

 private:
  parallel::Mesh& mesh_;
  model::ExpertShard experts_;
  std::vector<GlobalSegment> segments_;
};

}  // namespace cadre::launch
