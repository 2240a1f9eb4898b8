#include "launch/trainer/sharded_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/optimizer.h"
#include "optim/optimizer.h"

namespace cadre::launch {
namespace {

// Every element is zero on all ranks but one, so that the sum is exact.
void share(const ModelShard& shard, const Tensor& values, const char* what) {
  shard.mesh().world().all_reduce(values, parallel::Reduction::kSum, {what})->wait();
}

}  // namespace

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

optim::GlobalNorm ShardedNorm::total(const std::vector<optim::SegmentState>& segments,
                                     const std::vector<std::vector<double>>& pieces) {
  const Tensor all = Tensor::zeros(allocator_, Dtype::kF64, Shape{shard_.piece_count()});
  double* const squares = all.data<double>();
  for (size_t i = 0; i < segments.size(); ++i) {
    const int64_t first = shard_.segment(segments[i].name).first_piece;
    std::copy(pieces[i].begin(), pieces[i].end(), squares + first + segments[i].owned.begin / parallel::kPieceElements);
  }
  share(shard_, all, "gradient norms");
  optim::GlobalNorm norm;
  std::vector<double> of_segment;
  for (const GlobalSegment& segment : shard_.segments()) {
    const auto count = static_cast<size_t>(parallel::pieces_of(segment.elements));
    of_segment.push_back(kernels::tree_sum({squares + segment.first_piece, count}));
    norm.square += of_segment.back();
    if (!std::isfinite(of_segment.back()) && norm.first_non_finite.empty()) norm.first_non_finite = segment.name;
  }
  for (const optim::SegmentState& segment : segments)
    norm.segments.push_back(of_segment[shard_.index_of(segment.name)]);
  return norm;
}

}  // namespace cadre::launch
