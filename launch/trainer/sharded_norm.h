#pragma once
// The global gradient norm over ranks: each segment's square from the first rank that holds it, then one sum in the
// order of a rank that has all, so that its bits do not depend on who has what.

#include <string>
#include <unordered_map>

#include "core/tensor.h"
#include "launch/trainer/model_shard.h"
#include "optim/norm_scope.h"

namespace cadre::launch {

class ShardedNorm final : public optim::NormScope {
 public:
  ShardedNorm(const ModelShard& shard, Allocator& allocator);
  optim::GlobalNorm total(const std::vector<optim::SegmentState>& segments,
                          const std::vector<double>& squares) override;

  // One value for each segment of the whole model, from values of the segments here; the same on every rank.
  // Collective.
  Tensor gather(const std::vector<optim::SegmentState>& segments, const std::vector<double>& values);

 private:
  const ModelShard& shard_;
  Allocator& allocator_;
  std::unordered_map<std::string, size_t> index_;  // into the global segments, by name
};

}  // namespace cadre::launch
