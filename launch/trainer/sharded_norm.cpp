#include "launch/trainer/sharded_norm.h"

#include <algorithm>

#include "kernels/optimizer.h"
#include "optim/optimizer.h"

namespace cadre::launch {
namespace {

// Every element is zero on all ranks but one, so that the sum is exact.
void share(const ModelShard& shard, const Tensor& values, const char* what) {
  shard.mesh().world().all_reduce(values, parallel::Reduction::kSum, {what})->wait();
}

}  // namespace

ShardedNorm::ShardedNorm(const ModelShard& shard, Allocator& allocator) : shard_(shard), allocator_(allocator) {
  for (const GlobalSegment& segment : shard.segments()) all_.push_back({segment.name, segment.layer, segment.expert});
}

Tensor ShardedNorm::gather(const std::vector<optim::SegmentState>& segments, const std::vector<double>& values) {
  const auto count = static_cast<int64_t>(shard_.segments().size());
  const Tensor all = Tensor::zeros(allocator_, Dtype::kF64, Shape{count});
  for (size_t i = 0; i < segments.size(); ++i) {
    const bool owns_the_first_piece = segments[i].owned.begin == 0 && segments[i].owned.count() > 0;
    if (owns_the_first_piece) all.data<double>()[shard_.index_of(segments[i].name)] = values[i];
  }
  share(shard_, all, "segment values");
  return all;
}

std::vector<double> ShardedNorm::squares(const std::vector<optim::SegmentState>& segments,
                                         const std::vector<std::vector<double>>& pieces, const char* what) {
  const Tensor all = Tensor::zeros(allocator_, Dtype::kF64, Shape{shard_.piece_count()});
  double* const squares = all.data<double>();
  for (size_t i = 0; i < segments.size(); ++i) {
    const int64_t first = shard_.segment(segments[i].name).first_piece;
    std::copy(pieces[i].begin(), pieces[i].end(), squares + first + segments[i].owned.begin / parallel::kPieceElements);
  }
  share(shard_, all, what);
  std::vector<double> of_segments;
  for (const GlobalSegment& segment : shard_.segments()) {
    const auto count = static_cast<size_t>(parallel::pieces_of(segment.elements));
    of_segments.push_back(kernels::tree_sum({squares + segment.first_piece, count}));
  }
  return of_segments;
}

}  // namespace cadre::launch
