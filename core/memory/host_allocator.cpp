#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "core/memory/allocator.h"

namespace cadre {
namespace {

constexpr size_t kSmallAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

struct Pool {
  std::mutex mutex;
  std::map<size_t, std::vector<void*>> free_blocks;
  MemoryStats stats;

  ~Pool() { release(); }

  void release() {
    for (auto& [bytes, blocks] : free_blocks) {
      for (void* block : blocks) std::free(block);
      stats.reserved -= bytes * blocks.size();
      blocks.clear();
    }
  }
};

class HostBuffer final : public Buffer {
 public:
  HostBuffer(void* data, size_t bytes, size_t block_bytes, std::shared_ptr<Pool> pool)
      : Buffer(data, bytes), block_bytes_(block_bytes), pool_(std::move(pool)) {}
  ~HostBuffer() override {
    const std::lock_guard lock(pool_->mutex);
    pool_->free_blocks[block_bytes_].push_back(data_);
    pool_->stats.in_use -= block_bytes_;
  }

 private:
  size_t block_bytes_;
  std::shared_ptr<Pool> pool_;  // buffers may outlive the allocator
};

void* fresh_block(size_t bytes) {
  const size_t alignment = bytes >= kHugePage ? kHugePage : kSmallAlignment;
  void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (block != nullptr && alignment == kHugePage) madvise(block, bytes, MADV_HUGEPAGE);
  return block;
}

class HostAllocator final : public Allocator {
 public:
  std::shared_ptr<Buffer> allocate(size_t bytes) override {
    const size_t block_bytes = size_class(bytes);
    const std::lock_guard lock(pool_->mutex);
    void* block = take(block_bytes);
    MemoryStats& stats = pool_->stats;
    stats.in_use += block_bytes;
    stats.peak = std::max(stats.peak, stats.in_use);
    ++stats.allocations;
    return std::make_shared<HostBuffer>(block, bytes, block_bytes, pool_);
  }

  MemoryStats stats() const override {
    const std::lock_guard lock(pool_->mutex);
    return pool_->stats;
  }

  void reset_peak() override {
    const std::lock_guard lock(pool_->mutex);
    pool_->stats.peak = pool_->stats.in_use;
  }

  void release_cached() override {
    const std::lock_guard lock(pool_->mutex);
    pool_->release();
  }

 private:
  void* take(size_t block_bytes) {
    auto& blocks = pool_->free_blocks[block_bytes];
    if (!blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      ++pool_->stats.reused;
      return block;
    }
    void* block = fresh_block(block_bytes);
    if (block == nullptr) {
      pool_->release();
      block = fresh_block(block_bytes);
    }
    if (block == nullptr) {
      throw DeviceError("out of host memory: wanted " + std::to_string(block_bytes) + " bytes with " +
                        std::to_string(pool_->stats.in_use) + " in use; lower micro_batch_size or turn on recompute");
    }
    pool_->stats.reserved += block_bytes;
    return block;
  }

  std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();
};

}  // namespace

std::shared_ptr<Allocator> make_host_allocator() { return std::make_shared<HostAllocator>(); }

}  // namespace cadre
