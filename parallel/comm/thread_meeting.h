#pragma once
// Where the ranks of a ThreadWorld meet: the world's state, with the failure that ends it, and a meeting place for each
// group.

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
#include "parallel/comm/progress.h"
#include "parallel/comm/thread.h"
#include "parallel/comm/wait_clock.h"

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

class MeetingPlace;

// What all groups of a world share. One mutex guards it and their meetings, so that a failure anywhere ends all waits.
class ThreadHall {
 public:
  ThreadHall(int ranks, ThreadOptions options);

  // The place of a group; the same for every member that asks. Lives as long as the hall.
  MeetingPlace& place(const GroupPtr& group);
  // A rank's body has returned (null error) or thrown.
  void leave(int rank, std::exception_ptr error, const std::string& what);
  // After all ranks have left: the error of the rank that failed the world, if any.
  void rethrow() const;
  [[noreturn]] void abort(int rank, int exit_code);

 private:
  friend class MeetingPlace;
  // With mutex_ held; ranks are the world's.
  void record(int rank, const std::string& text);
  [[noreturn]] void fail(int rank, const std::string& text);
  void throw_if_failed() const;
  std::vector<RankView> views() const;

  const ThreadOptions options_;
  std::mutex mutex_;
  std::condition_variable arrival_;
  std::map<uint64_t, std::unique_ptr<MeetingPlace>> places_;  // by the group's key
  std::vector<bool> left_;
  std::deque<ProgressPage> pages_;  // by rank
  std::deque<ProgressWriter> writers_;
  bool reported_ = false;
  std::string failure_;  // empty while all is well
  int culprit_ = -1;     // who failed it
  std::exception_ptr error_;
};

// Of one group; ranks are the group's. Thread-safe. Collectives are computed under the hall's mutex, which also keeps a
// failing rank from freeing a buffer that another rank is reading. Every method but drop throws CommunicationError once
// the world has failed.
class MeetingPlace {
 public:
  MeetingPlace(ThreadHall& hall, GroupPtr group) : hall_(hall), group_(std::move(group)) {}
  int size() const { return static_cast<int>(group_->members.size()); }
  const GroupPtr& group() const { return group_; }

  // The last rank to join computes the result for all.
  MeetingPtr join(int rank, const Call& call, Party party);
  // One side of a message; call.peer is the other rank. The second side copies.
  MeetingPtr post(int rank, const Call& call, TensorView data);
  // False while it is not finished; throws past the deadline by the clock.
  bool done(int rank, const Meeting& meeting, WaitClock& clock);
  void wait(int rank, const Meeting& meeting);
  // The rank no longer keeps its buffers alive: fails the world unless the meeting is finished.
  void drop(int rank, const Meeting& meeting) noexcept;

 private:
  friend class ThreadHall;
  struct Channel {
    std::deque<MeetingPtr> sends;
    std::deque<MeetingPtr> receives;
  };

  // With the hall's mutex held.
  MeetingPtr open(int rank, const Call& call) const;
  void finish(Meeting& meeting);
  void fail_as_different(const Meeting& meeting, int rank, const Call& call);
  void fail_if_deserted(const Meeting& meeting, int rank);
  [[noreturn]] void time_out(int rank, const Meeting& meeting, WaitClock::Duration waited);
  // The rank of the world will not come any more.
  void desert(int world_rank);
  int world(int rank) const { return group_->world_rank(rank); }
  std::string deserted_text(const Meeting& meeting, int absent) const;

  ThreadHall& hall_;
  const GroupPtr group_;
  std::map<int64_t, MeetingPtr> meetings_;           // unfinished collectives by sequence number
  std::map<std::pair<int, int>, Channel> channels_;  // unmatched messages by (from, to)
};

}  // namespace cadre::parallel
