#include "model/expert_shard.h"

#include <numeric>

namespace cadre::model {

ExpertShard ExpertShard::whole(int64_t experts) {
  ExpertShard shard{std::vector<int64_t>(static_cast<size_t>(experts)), parallel::make_local_dispatcher()};
  std::iota(shard.held.begin(), shard.held.end(), int64_t{0});
  return shard;
}

ExpertShards ExpertShards::whole(const ExpertLayout& layout) {
  std::vector<ExpertShard> shards;
  for (int64_t layer = 0; layer < layout.layers(); ++layer) {
    shards.push_back(ExpertShard::whole(layout.layer(layer).computing()));
  }
  return ExpertShards(std::move(shards));
}

}  // namespace cadre::model
