#pragma once
// Gradient norms over ranks: each piece's square from the rank that owns it, and a tree over the pieces of a segment,
// so that bits do not depend on who has what.

#include <vector>

#include "core/tensor.h"
#include "launch/trainer/model_shard.h"
#include "optim/norm_scope.h"

namespace cadre::launch {

class ShardedNorm final : public optim::NormScope {
 public:
  ShardedNorm(const ModelShard& shard, Allocator& allocator);
  const std::vector<optim::NormSegment>& all() const override { return all_; }
  size_t index_of(const std::string& name) const override { return shard_.index_of(name); }
  std::vector<double> squares(const std::vector<optim::SegmentState>& segments,
                              const std::vector<std::vector<double>>& pieces, const char* what) override;

  // One value for each segment of the whole model, from values of the segments here; the same on every rank.
  // Collective.
  Tensor gather(const std::vector<optim::SegmentState>& segments, const std::vector<double>& values);

 private:
  const ModelShard& shard_;
  Allocator& allocator_;
  std::vector<optim::NormSegment> all_;
};

}  // namespace cadre::launch
