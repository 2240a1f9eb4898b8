#include "launch/trainer/sharded_norm.h"

#include <algorithm>
#include <cmath>

#include "optim/optimizer.h"

namespace cadre::launch {

ShardedNorm::ShardedNorm(const ModelShard& shard, Allocator& allocator) : shard_(shard), allocator_(allocator) {
  for (size_t i = 0; i < shard.segments().size(); ++i) index_[shard.segments()[i].name] = i;
}

Tensor ShardedNorm::gather(const std::vector<optim::SegmentState>& segments, const std::vector<double>& values) {
  Tensor all = Tensor::zeros(allocator_, Dtype::kF64, Shape{static_cast<int64_t>(index_.size())});
  for (size_t i = 0; i < segments.size(); ++i) {
    if (!shard_.place_of(segments[i].name, segments[i].expert).first()) continue;
    all.data<double>()[index_.at(segments[i].name)] = values[i];
  }
  shard_.mesh().world().all_reduce(all, parallel::Reduction::kSum, {"segment values"})->wait();
  return all;
}

optim::GlobalNorm ShardedNorm::total(const std::vector<optim::SegmentState>& segments,
                                     const std::vector<double>& squares) {
  const Tensor all = gather(segments, squares);
  optim::GlobalNorm norm;
  for (int64_t i = 0; i < all.elements(); ++i) {
    const double square = all.data<double>()[i];
    norm.square += square;
    if (!std::isfinite(square) && norm.first_non_finite.empty()) {
      norm.first_non_finite = shard_.segments()[static_cast<size_t>(i)].name;
    }
  }
  return norm;
}

}  // namespace cadre::launch
