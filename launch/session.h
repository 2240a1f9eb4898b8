#pragma once
// What one rank of the program runs with: communicators, log, memory, threads. Made once by a command and passed down.

#include <memory>

#include "autograd/context.h"
#include "core/log.h"
#include "launch/settings.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/mpi.h"

namespace cadre::launch {

class Session {
 public:
  // Starts MPI when mpirun started the process. Throws ConfigError when a setting does not fit the machine.
  Session(const DeviceSettings& device, Dtype dtype);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  parallel::Communicator& world() { return *world_; }
  Logger& logger() { return *logger_; }
  Allocator& allocator() { return *allocator_; }
  autograd::Context& context() { return *context_; }
  int rank() const { return world_->rank(); }
  int ranks() const { return world_->size(); }
  int threads() const { return threads_->size(); }

 private:
  parallel::MpiSession mpi_;
  std::unique_ptr<parallel::Communicator> world_;
  std::unique_ptr<Logger> logger_;
  std::shared_ptr<Allocator> allocator_;
  std::unique_ptr<ThreadPool> threads_;
  std::unique_ptr<autograd::Context> context_;
};

// Whether this process was started by mpirun (or srun with PMIx).
parallel::Launcher detect_launcher();

}  // namespace cadre::launch
