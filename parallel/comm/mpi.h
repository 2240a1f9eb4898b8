#pragma once
// Ranks as processes under mpirun.
//
// Collectives are built from nonblocking messages and, for all_reduce among the ranks of one node, shared memory; they
// sum in rank order ((r0 + r1) + r2 ...), whatever the size, so the bits are the same on every rank, in every run, and
// whatever the bucket size. They progress inside poll(), done() and wait() of any communicator of the session. A
// message of another size than expected, and in shared memory any difference between the ranks' calls, is an error on
// the ranks that see it; everything else that does not match ends by the deadline, naming the ranks that are missing.
// After an error the communicator refuses further calls.

#include <chrono>
#include <memory>

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

class Engine;

enum class Launcher { kNone, kMpirun };

struct MpiOptions {
  // How long one wait() may last.
  std::chrono::milliseconds deadline{600'000};
  // Reduce through shared memory where all ranks are on one node; bytes are for all ranks together.
  bool shared_memory = true;
  size_t shared_bytes = size_t{32} << 20;
};

// MPI from construction to destruction; one per process. Destroyed by an exception it does not finalize MPI, which
// would wait for the other ranks: mpirun then ends the job.
class MpiSession {
 public:
  // With Launcher::kNone MPI is not touched at all, and there is one rank.
  explicit MpiSession(Launcher launcher);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  // A new communicator of all ranks, independent of others: one per thread that communicates. Collective. Must be
  // destroyed before the session.
  std::unique_ptr<Communicator> world(const MpiOptions& options = {});

 private:
  Launcher launcher_;
  int exceptions_;
  std::shared_ptr<Engine> engine_;
};

}  // namespace cadre::parallel
