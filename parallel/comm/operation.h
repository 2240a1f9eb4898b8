#pragma once
// A collective as a machine of stages that anybody may push on: the engine advances all of them, whoever waits, so that
// two ranks that wait for different collectives cannot block each other.

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "parallel/comm/collective.h"

namespace cadre::parallel {

class StagedOperation {
 public:
  explicit StagedOperation(const Call& call) : call_(call) {}
  virtual ~StagedOperation() = default;
  const Call& call() const { return call_; }
  // Does what can be done now, without blocking; true when complete.
  virtual bool advance() = 0;
  // The ranks it waits for.
  virtual std::vector<int> missing() const = 0;

 protected:
  Call call_;

 private:
  friend class Engine;
  std::atomic<bool> complete_{false};
  std::exception_ptr error_;  // set before complete_
};

// All pending operations of a session. Thread-safe; its lock is also the one that MPI_THREAD_SERIALIZED asks for.
class Engine {
 public:
  // Advances the operation once; what is not complete then is kept until it is.
  void start(std::shared_ptr<StagedOperation> operation);
  // Advances every pending operation. A load and a branch when nothing is pending; returns at once when another thread
  // is at it.
  void poll() {
    if (pending_count_.load(std::memory_order_relaxed) > 0) advance_all();
  }
  // True when complete; rethrows its error.
  bool done(const StagedOperation& operation);
  bool complete(const StagedOperation& operation) const { return operation.complete_.load(std::memory_order_acquire); }
  // Spins briefly, then yields, then sleeps, since ranks may outnumber cores. Throws CommunicationError naming the call
  // and the missing ranks after `deadline`.
  void wait(const StagedOperation& operation, int rank, std::chrono::milliseconds deadline);

  // Never advances the operation again, but keeps it, since messages may still arrive in its memory.
  void abandon(const StagedOperation& operation);

  std::recursive_mutex& mutex() { return mutex_; }

 private:
  void advance_all();

  std::recursive_mutex mutex_;
  std::vector<std::shared_ptr<StagedOperation>> pending_;  // in order of start
  std::vector<std::shared_ptr<StagedOperation>> abandoned_;
  std::atomic<int> pending_count_{0};
};

}  // namespace cadre::parallel
