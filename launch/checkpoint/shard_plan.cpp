#include "launch/checkpoint/shard_plan.h"

#include <algorithm>

namespace cadre::launch {
namespace {

class Packer {
 public:
  explicit Packer(uint64_t shard_bytes) : limit_(shard_bytes) {}

  void add(const StateEntry& entry) {
    const uint64_t bytes = entry.bytes() + ShardWriter::kDatasetOverhead;
    if (shards_.empty() || used_ + bytes > limit_) {
      shards_.emplace_back();
      used_ = ShardWriter::kFileOverhead;
    }
    shards_.back().push_back(entry);
    used_ += bytes;
  }

  std::vector<std::vector<StateEntry>> take() { return std::move(shards_); }

 private:
  uint64_t limit_;
  uint64_t used_ = 0;
  std::vector<std::vector<StateEntry>> shards_;
};

}  // namespace

std::vector<std::vector<StateEntry>> plan_shards(const std::vector<StateEntry>& entries, uint64_t shard_bytes) {
  constexpr uint64_t kOverhead = ShardWriter::kDatasetOverhead + ShardWriter::kFileOverhead;
  const uint64_t room = shard_bytes > kOverhead ? shard_bytes - kOverhead : 1;
  Packer packer(shard_bytes);
  for (const StateEntry& entry : entries) {
    if (entry.data.shape.elements() == 0 && entry.global_shape.elements() != 0) continue;
    if (entry.bytes() <= room || entry.data.shape.rank() == 0) {
      packer.add(entry);
      continue;
    }
    const int64_t rows = entry.data.shape[0];
    const uint64_t row_bytes = entry.bytes() / static_cast<uint64_t>(rows);
    const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(room / row_bytes));
    for (int64_t row = 0; row < rows; row += step) packer.add(rows_of(entry, row, std::min(rows, row + step)));
  }
  return packer.take();
}

}  // namespace cadre::launch
