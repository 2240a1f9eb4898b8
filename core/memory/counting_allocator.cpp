#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "core/error.h"
#include "core/memory/allocator.h"

namespace cadre {
namespace {

constexpr size_t kMapped = size_t{1} << 20;  // from here on blocks are mappings of their own
constexpr size_t kAlignment = 64;

struct Count {
  std::mutex mutex;
  MemoryStats stats;
};

class CountedBuffer final : public Buffer {
 public:
  CountedBuffer(void* data, size_t bytes, size_t block_bytes, std::shared_ptr<Count> count)
      : Buffer(data, bytes), block_bytes_(block_bytes), count_(std::move(count)) {}
  ~CountedBuffer() override {
    if (block_bytes_ >= kMapped) {
      munmap(data_, block_bytes_);
    } else {
      std::free(data_);
    }
    const std::lock_guard lock(count_->mutex);
    count_->stats.in_use -= block_bytes_;
    count_->stats.reserved -= block_bytes_;
  }

 private:
  size_t block_bytes_;
  std::shared_ptr<Count> count_;
};

void* zeroed_block(size_t bytes) {
  if (bytes >= kMapped) {
    void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return block == MAP_FAILED ? nullptr : block;
  }
  void* block = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (block != nullptr) std::fill_n(static_cast<char*>(block), bytes, char{0});
  return block;
}

class CountingAllocator final : public Allocator {
 public:
  std::shared_ptr<Buffer> allocate(size_t bytes) override {
    const size_t block_bytes = size_class(bytes);
    void* block = zeroed_block(block_bytes);
    if (block == nullptr) {
      throw DeviceError("out of address space: wanted " + std::to_string(block_bytes) +
                        " bytes that are only counted; raise ulimit -v, or set vm.overcommit_memory to 0 or 1");
    }
    const std::lock_guard lock(count_->mutex);
    MemoryStats& stats = count_->stats;
    stats.in_use += block_bytes;
    stats.reserved += block_bytes;
    stats.peak = std::max(stats.peak, stats.in_use);
    ++stats.allocations;
    return std::make_shared<CountedBuffer>(block, bytes, block_bytes, count_);
  }

  MemoryStats stats() const override {
    const std::lock_guard lock(count_->mutex);
    return count_->stats;
  }

  void reset_peak() override {
    const std::lock_guard lock(count_->mutex);
    count_->stats.peak = count_->stats.in_use;
  }

  void release_cached() override {}
  bool gives_zeros() const override { return true; }

 private:
  std::shared_ptr<Count> count_ = std::make_shared<Count>();  // buffers may outlive the allocator
};

}  // namespace

std::shared_ptr<Allocator> make_counting_allocator() { return std::make_shared<CountingAllocator>(); }

}  // namespace cadre
