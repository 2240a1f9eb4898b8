#pragma once
// Host memory filled with NaN (floats) or -1 (integers), so that reading what nobody wrote shows.

#include <cstring>

#include "core/memory/allocator.h"

namespace cadre::autograd::testing {

class PoisonAllocator final : public Allocator {
 public:
  std::shared_ptr<Buffer> allocate(size_t bytes) override {
    auto buffer = host_->allocate(bytes);
    std::memset(buffer->data(), 0xff, bytes);
    return buffer;
  }
  MemoryStats stats() const override { return host_->stats(); }
  void reset_peak() override { host_->reset_peak(); }
  void release_cached() override { host_->release_cached(); }

 private:
  std::shared_ptr<Allocator> host_ = make_host_allocator();
};

}  // namespace cadre::autograd::testing
