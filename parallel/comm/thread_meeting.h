#pragma once
// Where the ranks of a ThreadWorld meet: the state that they share, and the failure that ends it.

#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/collective.h"
#include "parallel/comm/thread.h"

namespace cadre::parallel {

// What one rank brings to a collective.
struct Party {
  bool arrived = false;
  TensorView send = {};
  TensorView receive = {};
  std::vector<int64_t> send_rows = {};
  std::vector<int64_t> receive_rows = {};
  std::string text = {};
};

// One collective, or one message (then its `parties` but the other side count as arrived).
struct Meeting {
  Call call;  // as made by `first`
  int first = 0;
  int arrived = 0;
  bool finished = false;
  std::vector<Party> parties;

  std::vector<int> missing() const;
};
using MeetingPtr = std::shared_ptr<Meeting>;

// Thread-safe. Collectives are computed under its mutex, which also keeps a failing rank from freeing a buffer that
// another rank is reading. Every method but drop, leave and rethrow throws CommunicationError once the world has
// failed.
class MeetingPlace {
 public:
  MeetingPlace(int ranks, ThreadOptions options)
      : ranks_(ranks), options_(options), left_(static_cast<size_t>(ranks)) {}
  int size() const { return ranks_; }

  // The last rank to join computes the result for all.
  MeetingPtr join(int rank, const Call& call, Party party);
  // One side of a message; call.peer is the other rank. The second side copies.
  MeetingPtr post(int rank, const Call& call, TensorView data);
  bool done(const Meeting& meeting);
  void wait(int rank, const Meeting& meeting);
  // The rank no longer keeps its buffers alive: fails the world unless the meeting is finished.
  void drop(int rank, const Meeting& meeting) noexcept;
  // A rank's body has returned (null error) or thrown.
  void leave(int rank, std::exception_ptr error, const std::string& what);
  // After all ranks have left: the error of the rank that failed the world, if any.
  void rethrow() const;
  [[noreturn]] void abort(int rank, int exit_code);

 private:
  struct Channel {
    std::deque<MeetingPtr> sends;
    std::deque<MeetingPtr> receives;
  };

  MeetingPtr open(int rank, const Call& call) const;
  void record(int rank, const std::string& text);
  [[noreturn]] void fail(int rank, const std::string& text);
  [[noreturn]] void fail_as_different(const Meeting& meeting, int rank, const Call& call);
  void throw_if_failed() const;
  void fail_if_deserted(const Meeting& meeting, int rank);

  const int ranks_;
  const ThreadOptions options_;
  std::mutex mutex_;
  std::condition_variable arrival_;
  std::map<int64_t, MeetingPtr> meetings_;           // unfinished collectives by sequence number
  std::map<std::pair<int, int>, Channel> channels_;  // unmatched messages by (from, to)
  std::vector<bool> left_;
  std::string failure_;  // empty while all is well
  int culprit_ = -1;     // who failed it
  std::exception_ptr error_;
};

}  // namespace cadre::parallel
