#pragma once
// Memory for tensors. Fresh pages are slow to touch (2 GB/s against 20 GB/s), so released blocks are kept and reused.

#include <cstddef>
#include <memory>

namespace cadre {

// One block; returns to its allocator when the last owner lets go. Aligned to 64 bytes (2 MiB from 2 MiB up).
class Buffer {
 public:
  virtual ~Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 protected:
  Buffer(void* data, size_t bytes) : data_(data), bytes_(bytes) {}
  void* data_;
  size_t bytes_;
};

struct MemoryStats {
  size_t in_use = 0;    // bytes handed out now, after rounding to size classes
  size_t peak = 0;      // largest in_use since the last reset
  size_t reserved = 0;  // bytes held from the operating system, cached blocks included
  size_t allocations = 0;
  size_t reused = 0;  // allocations served from the cache
};

class Allocator {
 public:
  virtual ~Allocator() = default;
  // Thread-safe. Throws DeviceError naming the sizes when memory runs out.
  virtual std::shared_ptr<Buffer> allocate(size_t bytes) = 0;
  virtual MemoryStats stats() const = 0;
  virtual void reset_peak() = 0;
  virtual void release_cached() = 0;
  // Whether every block comes as zeros.
  virtual bool gives_zeros() const { return false; }
};

// Host memory: size classes a quarter of a power of two apart, a free list for each, huge pages where offered.
std::shared_ptr<Allocator> make_host_allocator();

// Counts as host memory does, but large blocks are address space: their pages come, as zeros, when they are touched.
// What a dry run (kernels/exec.h) needs is told by stats().
std::shared_ptr<Allocator> make_counting_allocator();

// What host memory hands out for so many bytes. Up to a quarter of waste at worst, an eighth on average; few enough
// classes that blocks are found again.
size_t size_class(size_t bytes);

}  // namespace cadre
