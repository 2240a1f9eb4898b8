#include "model/expert_shard.h"

#include <numeric>

namespace cadre::model {

ExpertShard ExpertShard::whole(int64_t experts) {
  ExpertShard shard{std::vector<int64_t>(static_cast<size_t>(experts)), parallel::make_local_dispatcher()};
  std::iota(shard.held.begin(), shard.held.end(), int64_t{0});
  return shard;
}

parallel::Placement placement_of(const LayerExperts& experts, int ranks) {
  const int64_t computing = experts.computing();
  if (computing == 0) return parallel::Placement({}, ranks);
  const parallel::Placement even = parallel::Placement::even(computing, ranks);
  std::vector<std::vector<int>> holders;
  for (int64_t place = 0; place < computing; ++place) {
    const ExpertSet& set = experts.set_of(place);
    const GroupPlacement placement = GroupPlacement::parse(set.placement);
    const std::vector<int> chosen = placement.ranks(ranks);
    const auto share = static_cast<size_t>((place - set.first) * static_cast<int64_t>(chosen.size()) / set.count);
    const bool everywhere = placement.last < placement.first;
    holders.push_back(placement.even ? even.holders(place) : everywhere ? chosen : std::vector<int>{chosen[share]});
  }
  return parallel::Placement(std::move(holders), ranks);
}

ExpertShards ExpertShards::whole(const ExpertLayout& layout) {
  std::vector<ExpertShard> shards;
  for (int64_t layer = 0; layer < layout.layers(); ++layer) {
    shards.push_back(ExpertShard::whole(layout.layer(layer).computing()));
  }
  return ExpertShards(std::move(shards));
}

}  // namespace cadre::model
