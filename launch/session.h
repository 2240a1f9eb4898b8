#pragma once
// What one rank of the program runs with: communicators, log, memory, threads. Made once by a command and passed down.

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "autograd/context.h"
#include "core/log.h"
#include "launch/failure.h"
#include "launch/places.h"
#include "launch/settings.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/mpi.h"

namespace cadre::launch {

class Session {
 public:
  // Starts MPI when mpirun started the process; what computes comes with start(). A crash prints a stack trace from
  // here on.
  Session();
  // Both in one.
  Session(const DeviceSettings& device, Dtype dtype);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Talks to nobody. Throws ConfigError when a setting does not fit the machine.
  void start(const DeviceSettings& device, Dtype dtype);

  // Rank 0 logs where the ranks run, and warns when threads outnumber CPUs. Collective; after start().
  void tell_places();

  // How long a rank waits for the others before the job ends with a report of where every rank is (exit code 5). Until
  // then: CADRE_TIMEOUT_SECONDS of the environment, or 10 minutes.
  void set_timeout(std::chrono::milliseconds timeout) { mpi_.set_deadline(timeout); }
  // With several nodes, makes that report complete: each node writes a small file a second into `directory`, which
  // exists and which all nodes see. Without it a rank knows only of those of its own node.
  void publish_progress(const std::filesystem::path& directory) { mpi_.publish_progress(directory); }

  // Returns what body() returns. What it throws ends the run on every rank, with one message for one cause: when all
  // ranks threw the same, rank 0 prints it and all throw ReportedError; when this rank is alone, or the ranks differ,
  // it prints its own, and the job is aborted with the code of the cause. Of the ranks of a node that gave up waiting,
  // one reports. What messages under way may still write to must outlive the call.
  template <class Body>
  auto together(Body&& body) {
    try {
      return body();
    } catch (const ReportedError&) {
      throw;
    } catch (...) {
      fail(current_failure());
    }
  }

  parallel::Communicator& world() { return *world_; }
  Logger& logger() { return *logger_; }
  Allocator& allocator() { return *allocator_; }
  autograd::Context& context() { return *context_; }
  int rank() const { return world_->rank(); }
  int ranks() const { return world_->size(); }
  int threads() const { return threads_->size(); }
  int ranks_of_host() const;   // this one's, itself included
  bool first_of_host() const;  // whether this rank is the lowest of its host

 private:
  [[noreturn]] void fail(const Failure& failure);
  void tell(const Failure& failure, bool alone);
  std::vector<std::string> failures_of_all(const Failure& failure);

  parallel::MpiSession mpi_;
  std::unique_ptr<parallel::Communicator> world_;
  std::unique_ptr<parallel::Communicator> failures_;  // of its own, since `world_` may be amid a collective
  std::unique_ptr<Logger> logger_;
  std::shared_ptr<Allocator> allocator_;
  std::vector<Place> places_;  // by rank
  std::unique_ptr<ThreadPool> threads_;
  std::unique_ptr<autograd::Context> context_;
};

// Whether this process was started by mpirun (or srun with PMIx).
parallel::Launcher detect_launcher();

}  // namespace cadre::launch
