#pragma once
// A collective as a machine of stages that anybody may push on: the engine advances all of them, whoever waits, so that
// two ranks that wait for different collectives cannot block each other.

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/collective.h"
#include "parallel/comm/wait_clock.h"

namespace cadre::parallel {

class StagedOperation {
 public:
  explicit StagedOperation(const Call& call) : call_(call) {}
  virtual ~StagedOperation() = default;
  const Call& call() const { return call_; }
  // Does what can be done now, without blocking; true when complete.
  virtual bool advance() = 0;
  // The ranks of the group that it waits for.
  virtual std::vector<int> missing() const = 0;
  // Nobody keeps its buffers alive any longer: nothing may be written to them if that can be helped. Not advanced
  // again.
  virtual void cancel() {}
  // Whether messages under way read or write the caller's buffers, also when it is not advanced any more.
  virtual bool uses_buffers() const { return false; }

 protected:
  Call call_;

 private:
  friend class Engine;
  std::atomic<bool> complete_{false};
  std::exception_ptr error_;  // set before complete_
  bool published_ = false;
};

class Watchdog;

// Why a communicator refuses further calls. Thread-safe; the first reason counts.
class CommunicatorFailure {
 public:
  void record(const std::string& text);
  bool happened() const { return happened_.load(std::memory_order_acquire); }
  void throw_if_happened() const;  // CommunicationError

 private:
  mutable std::mutex mutex_;
  std::string text_;
  std::atomic<bool> happened_{false};
};

// How a rank waits for an operation.
struct Patience {
  int rank = 0;                                  // of the world, for errors
  std::chrono::milliseconds deadline{0};         // 0: the engine's
  bool published = true;                         // on the watchdog's board
  const CommunicatorFailure* failure = nullptr;  // waiting is of no use once it has happened
};

// All pending operations of a session. Thread-safe; its lock is also the one that MPI_THREAD_SERIALIZED asks for.
class Engine {
 public:
  // Advances the operation once; what is not complete then is kept until it is. Published operations show on the
  // watchdog's board.
  void start(std::shared_ptr<StagedOperation> operation, bool published);
  // Advances every pending operation. A load and a branch when nothing is pending; returns at once when another thread
  // is at it.
  void poll() {
    if (pending_count_.load(std::memory_order_relaxed) > 0) advance_all();
  }
  // True when complete; rethrows its error.
  bool done(const StagedOperation& operation);
  bool complete(const StagedOperation& operation) const { return operation.complete_.load(std::memory_order_acquire); }
  // Spins briefly, then yields, then sleeps, since ranks may outnumber cores. Throws TimeoutError past the deadline,
  // and CommunicationError when the communicator fails meanwhile.
  void wait(const StagedOperation& operation, const Patience& patience);
  // Throws what wait() would after waiting as long as the clock says.
  void check_deadline(const StagedOperation& operation, const Patience& patience, WaitClock& clock);
  // Polls until nothing is pending, or for as long as given.
  void drain(std::chrono::milliseconds longest);

  // Never advances the operation again, but keeps it, since messages may still arrive in its memory.
  void abandon(const StagedOperation& operation);
  // The same before its caller's buffers go. Its messages get a moment to complete, one for all operations together.
  void release(const StagedOperation& operation);
  // Whether messages of abandoned operations may read or write buffers that are gone: whatever lets MPI progress could
  // crash this process, or send rubbish.
  bool dangling();

  std::recursive_mutex& mutex() { return mutex_; }
  // Null: nothing is published. Set before the first operation, and reset after the last.
  void set_watchdog(Watchdog* watchdog) { watchdog_ = watchdog; }
  Watchdog* watchdog() { return watchdog_; }
  void set_deadline(std::chrono::milliseconds deadline) { deadline_.store(deadline.count()); }
  std::chrono::milliseconds deadline() const { return std::chrono::milliseconds(deadline_.load()); }

 private:
  std::chrono::milliseconds deadline_of(const Patience& patience) const;
  void advance_all();

  std::recursive_mutex mutex_;
  std::vector<std::shared_ptr<StagedOperation>> pending_;  // in order of start
  std::vector<std::shared_ptr<StagedOperation>> abandoned_;
  std::optional<std::chrono::steady_clock::time_point> release_until_;
  std::atomic<int> pending_count_{0};
  std::atomic<int64_t> deadline_{600'000};  // milliseconds
  Watchdog* watchdog_ = nullptr;
};

}  // namespace cadre::parallel
