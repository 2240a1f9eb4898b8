#pragma once
// The only door to MPI: sessions, groups of ranks, and nonblocking point-to-point messages. All collectives of this
// project are built from these, so that their order of summation, progress and errors are ours.
//
// MPI is used in THREAD_SERIALIZED mode: callers hold the session's lock around everything here.

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

namespace cadre::parallel {

// A communicator of MPI's, duplicated, so that its messages never meet another group's.
class MpiGroup {
 public:
  // A duplicate of MPI_COMM_WORLD. Collective over its ranks.
  static std::unique_ptr<MpiGroup> duplicate_world();
  // As MPI_Comm_split; null where the color is negative. Collective, and blocks inside MPI.
  std::unique_ptr<MpiGroup> split(int color, int key) const;
  ~MpiGroup();
  MpiGroup(const MpiGroup&) = delete;
  MpiGroup& operator=(const MpiGroup&) = delete;

  int rank() const;
  int size() const;
  // The lowest rank here of those that run on this node and can share memory. Collective, and blocks inside MPI.
  int first_rank_of_node() const;
  const std::vector<int>& world_ranks() const;
  [[noreturn]] void abort(int exit_code) const;

 private:
  friend class Messages;
  struct State;
  explicit MpiGroup(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Tags. Those of collectives are below the first free one.
constexpr int kFirstFreeTag = 1 << 30;
constexpr int kCallCheckTag = kFirstFreeTag;
constexpr int kMessageHeaderTag = kFirstFreeTag + 1;
constexpr int kMessageTag = kFirstFreeTag + 2;

// A bundle of messages under way. Messages of one (from, to, tag) arrive in the order in which they were sent. Of any
// size; zero bytes are sent too.
class Messages {
 public:
  explicit Messages(std::shared_ptr<MpiGroup> group);
  ~Messages();
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  void send(const void* data, size_t bytes, int to, int tag);
  void receive(void* data, size_t bytes, int from, int tag);
  // Lets MPI progress; true when all are complete. Throws CommunicationError when a message has another size than was
  // expected, or MPI fails.
  bool done();
  // Receives that no message has met yet will never write; those amid a message still do.
  void cancel();
  // Whether any was incomplete when done() last looked.
  bool under_way() const;
  // The ranks of incomplete messages, ascending.
  std::vector<int> missing() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// MPI_Init_thread and MPI_Finalize. A process whose others do not come up in so long ends with exit code 5 and a line
// that says so.
void initialize_mpi(std::chrono::milliseconds deadline);
void finalize_mpi();
// Ends the job. From any thread, whoever holds the lock: Open MPI's MPI_Abort asks only the launcher.
[[noreturn]] void abort_mpi(int exit_code);

}  // namespace cadre::parallel
