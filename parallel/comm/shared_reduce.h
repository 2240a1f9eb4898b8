#pragma once
// all_reduce through memory that the ranks of one node share; it needs no message at all.
//
// Buffers are cut into pieces, and every piece into one part for each rank. A rank (1) copies the parts that others own
// into its slot of shared memory, (2) once all have done so, sums its own part in the order of reduction.h, straight
// from the others' slots, into its buffer and its slot, and (3) once all have summed, copies the others' parts out.
// Step 1 runs ahead as far as there are slots, mostly within the call that starts the reduction, so that two polls at
// any later time complete it.

#include <cstddef>
#include <memory>

#include "parallel/comm/operation.h"

namespace cadre::parallel {

class SharedArena : public std::enable_shared_from_this<SharedArena> {
 public:
  // Collective over `communicator`, whose ranks are on one node; `bytes` is for all ranks together. Null on every rank
  // when the memory cannot be had.
  static std::shared_ptr<SharedArena> create(Communicator& communicator, size_t bytes);
  virtual ~SharedArena() = default;

  // Every rank makes the same calls in the same order; a rank that does not gets CommunicationError, as all others do.
  virtual std::unique_ptr<StagedOperation> all_reduce(const Call& call, void* data) = 0;
};

}  // namespace cadre::parallel
