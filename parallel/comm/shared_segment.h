#pragma once
// Memory that the ranks of one node share. It has no name: the others open it through the process that made it, so
// that a job killed at any moment leaves nothing behind, and a small /dev/shm does not matter.

#include <cstddef>
#include <memory>

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

class SharedSegment {
 public:
  // Collective over `communicator`, whose ranks are on one node. Zeroed memory, really reserved. Where the ranks may
  // not look into each other's /proc, and if `or_file`, a file in the folder of temporary files stands for it (slower
  // to set up, the same to use while it is in memory); its name is removed as soon as all have opened it. Null on every
  // rank when any rank could not get it.
  static std::unique_ptr<SharedSegment> create(Communicator& communicator, size_t bytes, bool or_file = false);
  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  SharedSegment(char* data, size_t bytes) : data_(data), bytes_(bytes) {}
  char* data_;
  size_t bytes_;
};

}  // namespace cadre::parallel
