#pragma once
// The experts of a layer that this rank holds, and the way to the others.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "model/expert_layout.h"
#include "parallel/expert/dispatcher.h"

namespace cadre::model {

struct ExpertShard {
  std::vector<int64_t> held;  // places, ascending
  std::shared_ptr<const parallel::Dispatcher> dispatcher;

  // All experts on one rank.
  static ExpertShard whole(int64_t experts);
};

// Where a layer's experts that compute are on the ranks of an expert group, by what their groups say.
parallel::Placement placement_of(const LayerExperts& experts, int ranks);

// Those of all layers: the same, or one for each.
class ExpertShards {
 public:
  ExpertShards(ExpertShard of_all) : shards_{std::move(of_all)} {}
  explicit ExpertShards(std::vector<ExpertShard> by_layer) : shards_(std::move(by_layer)) {}
  // All experts on one rank.
  static ExpertShards whole(const ExpertLayout& layout);
  const ExpertShard& of(int64_t layer) const {
    return shards_.size() == 1 ? shards_.front() : shards_.at(static_cast<size_t>(layer));
  }

 private:
  std::vector<ExpertShard> shards_;
};

}  // namespace cadre::model
