#pragma once
// The global gradient norm over ranks: each piece's square from the rank that owns it, a tree over the pieces of a
// segment, and one sum over segments in the order of a rank that has all, so that its bits do not depend on who has
// what.

#include <vector>

#include "core/tensor.h"
#include "launch/trainer/model_shard.h"
#include "optim/norm_scope.h"

namespace cadre::launch {

class ShardedNorm final : public optim::NormScope {
 public:
  ShardedNorm(const ModelShard& shard, Allocator& allocator) : shard_(shard), allocator_(allocator) {}
  optim::GlobalNorm total(const std::vector<optim::SegmentState>& segments,
                          const std::vector<std::vector<double>>& pieces) override;

  // One value for each segment of the whole model, from values of the segments here; the same on every rank.
  // Collective.
  Tensor gather(const std::vector<optim::SegmentState>& segments, const std::vector<double>& values);

 private:
  const ModelShard& shard_;
  Allocator& allocator_;
};

}  // namespace cadre::launch
