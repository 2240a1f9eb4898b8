#pragma once
// Ranks as processes under mpirun.
//
// Collectives are built from nonblocking messages and, for all_reduce among the ranks of one node, shared memory; they
// sum in a tree over ranks (reduction.h), whatever the size, so the bits are the same on every rank, in every run, and
// whatever the bucket size. They progress inside poll(), done() and wait() of any communicator of the session. A
// message of another size than expected, and any difference between the ranks' calls (of which each rank tells its
// neighbour, beside the collective), is an error on the ranks that see it, at the latest at their next call; everything
// else that does not match ends by the deadline, naming the ranks that are missing and telling where every rank is.
// After an error the communicator refuses further calls.

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

class Engine;
class Watchdog;

enum class Launcher { kNone, kMpirun };

struct MpiOptions {
  std::string name = "world";
  // How long one wait() may last; 0: as long as set_deadline() says.
  std::chrono::milliseconds deadline{0};
  // Whether the watchdog's reports tell of its collectives.
  bool published = true;
  // Reduce through shared memory where all ranks of a group are on one node; bytes are for all ranks together. The
  // groups of a split() share a quarter of their parent's, but get 256 KiB for each rank.
  bool shared_memory = true;
  size_t shared_bytes = size_t{32} << 20;
};

struct SessionOptions {
  // As MpiSession::set_deadline().
  std::chrono::milliseconds deadline = std::chrono::minutes(10);
  // Takes so many consecutive ranks for a node, to try several nodes on one machine; 0: nodes are as they are.
  int ranks_per_node = 0;
};

// MPI from construction to destruction; one per process. Destroyed by an exception it does not finalize MPI, which
// would wait for the other ranks: mpirun then ends the job.
class MpiSession {
 public:
  // With Launcher::kNone MPI is not touched at all, and there is one rank. Collective.
  explicit MpiSession(Launcher launcher, const SessionOptions& options = {});
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  // A new communicator of all ranks, independent of others: one per thread that communicates. Collective. Must be
  // destroyed before the session.
  std::unique_ptr<Communicator> world(const MpiOptions& options = {});

  // How long a rank waits for the others before it gives them up.
  void set_deadline(std::chrono::milliseconds deadline);
  // Told when this rank is past the deadline where nobody can be thrown at: on another thread, in a call of MPI's that
  // it cannot leave, and in the session's destructor. It should end the job; without it nothing happens.
  void on_blocked(std::function<void(const std::string& report)> handler);
  // True when ranks run on several nodes; their progress is then known everywhere only after publish_progress().
  bool several_nodes() const;
  // Where every node writes, once a second, where its ranks are: a directory that exists and that all nodes see. Does
  // nothing on one node.
  void publish_progress(const std::filesystem::path& directory);
  // True when messages are under way whose buffers may be gone, since their Work was dropped or has failed: nothing
  // safe is left but abort().
  bool dangling() const;
  // Ends the job on every rank; from any thread.
  void abort(int exit_code);

 private:
  void start_watchdog();
  void meet_at_the_end();

  Launcher launcher_;
  int ranks_per_node_;
  int exceptions_;
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<Communicator> everyone_;  // the session's own; null when there is one rank
  std::function<void(const std::string& report)> blocked_handler_;
  bool several_nodes_ = false;
  uint64_t worlds_ = 0;
};

}  // namespace cadre::parallel
