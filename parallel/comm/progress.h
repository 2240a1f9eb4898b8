#pragma once
// What each rank publishes of its progress outside of MPI, since a stopped rank cannot answer; and the report made of
// it when a collective passes its deadline.

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/comm/collective.h"

namespace cadre::parallel {

enum class Activity : int32_t {
  kUnknown,  // nothing was heard of this rank
  kOutside,  // not waiting for others: it computes, reads, writes, or hangs
             // there
  kWaiting,  // for the others' part of a collective
  kBlocked,  // in a call of MPI's that cannot be given up
  kEnded
};

// How far a rank has come in one communicator.
struct GroupProgress {
  uint64_t key = 0;       // of the group; 0: unused
  int64_t entered = -1;   // newest collective, by sequence number
  int64_t finished = -1;  // newest finished one
};

constexpr int kTrackedGroups = 16;

// Times are nanoseconds of the node's monotonic clock, which all its processes share.
struct RankProgress {
  int32_t rank = -1;  // of the world
  int32_t pid = 0;
  Activity activity = Activity::kUnknown;
  int32_t entered_any = 0;
  int64_t since = 0;  // of the activity
  int32_t last_finished = 0;
  CallRecord last = {};     // newest collective or message entered, when entered_any
  CallRecord waiting = {};  // what it waits for, when kWaiting
  uint64_t waiting_group = 0;
  char blocked[48] = {};  // where, when kBlocked
  GroupProgress groups[kTrackedGroups] = {};
};

int64_t monotonic_nanoseconds();

// Of one rank; shared memory, zeroed at first. Two copies, so that a writer stopped amid an update leaves one whole.
struct ProgressPage {
  std::atomic<uint64_t> updates;   // the newest copy is copies[updates % 2]
  std::atomic<int64_t> heartbeat;  // when its process last ran
  RankProgress copies[2];

  void write(const RankProgress& progress);  // by one thread at a time
  RankProgress read() const;                 // by anybody
};
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free);

// Keeps one rank's page. Callers hold the lock of its process.
class ProgressWriter {
 public:
  // `page` outlives this.
  ProgressWriter(ProgressPage& page, int rank);
  void entered(const Call& call);
  void finished(const Call& call);
  void waiting(const Call& call);
  void blocked(const std::string& where);
  void outside();
  void ended();
  // The group's last communicator is gone.
  void forget(uint64_t key);

 private:
  GroupProgress* find(uint64_t key, bool adds);
  void become(Activity activity);
  ProgressPage& page_;
  RankProgress progress_;
};

// One rank as another one sees it.
struct RankView {
  RankProgress progress;
  double seconds = 0;  // in its activity
  double silent = 0;   // since its process last ran
};

constexpr double kSilentSeconds = 1.5;  // after which a process counts as stopped or dead; it reports every
                                        // 0.2 s

// Members of the group that have not entered the call, where that is known. Ranks of the world.
std::vector<int> absent_from(const Call& call, const std::vector<RankView>& views);
// The ranks that the others wait for: those whose processes are silent; when there are none, those that are neither
// waiting nor blocked.
std::vector<int> suspects(const std::vector<RankView>& views);
// The ranks that this one, when it is waiting, is known to wait for: the other side of a message, or those that have
// not entered the collective. `views` are by rank.
std::vector<int> awaited_by(int rank, const std::vector<RankView>& views);
// Ranks that wait each for the next, and the last one for the first; found from `rank` on. Empty when there are none.
std::vector<int> circle(int rank, const std::vector<RankView>& views);
// A line for each rank, equal ones in one: what it does, and the last collective that it entered.
std::string report(const std::vector<RankView>& views);
// The message of a TimeoutError: which call, who is missing, the report. `missing` are the ranks of the group that the
// operation itself waits for.
std::string timeout_message(const Call& call, int rank, double seconds, const std::vector<int>& missing,
                            const std::vector<RankView>& views);

}  // namespace cadre::parallel
