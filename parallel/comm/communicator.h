#pragma once
// Ranks that talk to each other. Three implementations: Self (one rank), Thread (ranks as threads of one process, the
// test workhorse) and Mpi. Size one is the identity.
//
// Every rank of a communicator makes the same calls in the same order. Each call gets a sequence number; a call whose
// operation, element count or dtype differs between ranks is an error, not a hang, wherever the implementation can see
// it. Reductions run in a fixed order of ranks, so that two runs agree bit for bit; every rank gets the same bits.
//
// Groups of ranks are made by split(). A communicator counts its own calls, so ranks may interleave nonblocking calls
// on different communicators in any order; poll(), done() and wait() of any of them move all of them on. A communicator
// may be destroyed when its rank has waited for its own calls, in any order among communicators, and after errors.

#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"
#include "parallel/comm/group.h"

namespace cadre::parallel {

enum class Reduction { kSum, kMax, kMin };

// What a collective is for: shown by logs, profiles and the watchdog.
struct CollectiveLabel {
  const char* name = "";
  int layer = -1;
};

// One collective under way. Buffers must stay alive and untouched until done() or wait().
class Work {
 public:
  virtual ~Work() = default;
  // Also lets the transport make progress; never blocks. Throws as wait() does, past the deadline since it first said
  // no too.
  virtual bool done() = 0;
  // Throws CommunicationError naming the collective; past its deadline TimeoutError, which tells where every rank is.
  virtual void wait() = 0;
};
using WorkPtr = std::unique_ptr<Work>;

// Past a deadline. The message tells for every rank the last collective that it entered.
class TimeoutError : public CommunicationError {
 public:
  TimeoutError(const std::string& message, bool first) : CommunicationError(message), first_(first) {}
  // Whether this rank was the first of its node to notice: the one that reports.
  bool first() const { return first_; }

 private:
  bool first_;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The ranks here as ranks of the world; errors name those.
  virtual const Group& group() const = 0;

  // A communicator of the ranks that passed the same color, ordered by key, then by rank here (as MPI_Comm_split); null
  // where the color is negative. `name` is the axis, for errors; ranks of one color pass the same. Collective: every
  // rank here calls it; it blocks, and two threads of one process must not split at the same time. Independent of this
  // communicator, which may be destroyed first.
  virtual std::unique_ptr<Communicator> split(int color, int key, const std::string& name) = 0;

  // In place; contiguous views; f32, f64, i64, i32.
  virtual WorkPtr all_reduce(TensorView data, Reduction reduction, CollectiveLabel label) = 0;
  // receive = the ranks' send parts, in rank order; receive has size() x the elements of send.
  virtual WorkPtr all_gather(TensorView send, TensorView receive, CollectiveLabel label) = 0;
  // send has size() x the elements of receive; rank r gets the sum of every rank's r-th part.
  virtual WorkPtr reduce_scatter(TensorView send, TensorView receive, CollectiveLabel label) = 0;
  // Rows of the first axis: send_rows[r] rows go to rank r, receive_rows[r] come from rank r, both in rank order.
  virtual WorkPtr all_to_all(TensorView send, const std::vector<int64_t>& send_rows, TensorView receive,
                             const std::vector<int64_t>& receive_rows, CollectiveLabel label) = 0;
  virtual WorkPtr broadcast(TensorView data, int root, CollectiveLabel label) = 0;
  // Messages of a pair of ranks arrive in the order in which they were sent. Any number may be under way, both ways,
  // and be waited for in any order. Both sides pass the same label, dtype and count: a receiver that is sent something
  // else throws CommunicationError naming both calls. A send may be done before its receive is called.
  virtual WorkPtr send(TensorView data, int to, CollectiveLabel label) = 0;
  virtual WorkPtr receive(TensorView data, int from, CollectiveLabel label) = 0;

  virtual void barrier(CollectiveLabel label) = 0;
  // Every rank's text, in rank order (for errors, fingerprints, host names; not for the hot path).
  virtual std::vector<std::string> gather_text(const std::string& text, CollectiveLabel label) = 0;

  // False where ranks are only described (described.h): buffers hold nothing, and nothing needs to be copied.
  virtual bool moves_data() const { return true; }
  // Lets pending work make progress; cheap; called from the op funnel.
  virtual void poll() {}
  // Ends the job on every rank with this exit code; does not return (in Thread: throws on all ranks).
  [[noreturn]] virtual void abort(int exit_code) = 0;
};

}  // namespace cadre::parallel
