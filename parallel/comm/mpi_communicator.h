#pragma once
// A communicator over messages and shared memory.

#include <memory>

#include "parallel/comm/mpi_messages.h"
#include "parallel/comm/operation.h"

namespace cadre::parallel {

// What a communicator hands down to the groups that it is split into.
struct MpiTraits {
  std::chrono::milliseconds deadline{0};  // 0: the engine's
  bool published = true;                  // on the watchdog's board
  size_t shared_bytes = 0;                // of shared memory, for all ranks together; 0: none
  int ranks_per_node = 0;                 // as SessionOptions
};

// A handle on `made` that takes the engine's lock to free it.
std::shared_ptr<MpiGroup> guard(const std::shared_ptr<Engine>& engine, std::unique_ptr<MpiGroup> made);

// Marks this rank, on the watchdog's board, as being inside a call of MPI's, and holds the engine's lock.
class BlockingCall {
 public:
  BlockingCall(Engine& engine, const std::string& where);
  ~BlockingCall();
  BlockingCall(const BlockingCall&) = delete;
  BlockingCall& operator=(const BlockingCall&) = delete;

 private:
  Engine& engine_;
  std::lock_guard<std::recursive_mutex> lock_;
};

// The lowest rank of `mpi` that is on this rank's node. Collective, and may block inside MPI.
int first_rank_of_node(const MpiGroup& mpi, int ranks_per_node);

// A communicator of the ranks of `mpi`, named and numbered by `group`. Collective. Of one rank it is Self.
std::unique_ptr<Communicator> make_mpi_communicator(std::shared_ptr<MpiGroup> mpi, GroupPtr group,
                                                    std::shared_ptr<Engine> engine, const MpiTraits& traits);

}  // namespace cadre::parallel
