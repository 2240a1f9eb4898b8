#pragma once
// Knows where every rank is, whether or not it can still answer.
//
// The ranks of a node share a board, a page for each; a rank writes its own at every collective, and its heartbeat
// every 0.2 s. So a stopped rank's page is exact as of its stop. With several nodes, one rank of each publishes the
// node's board once a second as a small file in a directory that all nodes see; when it stops, another one takes over.
// Nothing here talks MPI.

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/progress.h"
#include "parallel/comm/wait_clock.h"

namespace cadre::parallel {

// The memory of a node's board; zeroed at first.
struct BoardHeader {
  std::atomic<int32_t> reporter;      // 1 + the rank that reports a hang; 0: none yet
  std::atomic<int64_t> published_at;  // monotonic nanoseconds
};

struct Board {
  std::shared_ptr<void> memory;  // bytes_for(ranks.size())
  std::vector<int> ranks;        // of this node, ascending
  size_t own = 0;                // index among them
  uint64_t job = 0;              // the same on all nodes, and another one in every run

  static size_t bytes_for(size_t ranks) { return sizeof(ProgressPage) * (ranks + 1); }
  static std::shared_ptr<void> private_memory(size_t ranks);
  BoardHeader& header() const { return *static_cast<BoardHeader*>(memory.get()); }
  ProgressPage& page(size_t index) const { return static_cast<ProgressPage*>(memory.get())[index + 1]; }
};

class Watchdog {
 public:
  // What to do when this rank cannot help itself, blocked in a call of MPI's past the deadline: told on a thread of the
  // watchdog's.
  using Handler = std::function<void(const std::string& report)>;

  Watchdog(Board board, int world_size);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  ProgressWriter& writer() { return writer_; }
  // Every rank of the world, by rank.
  std::vector<RankView> views() const;
  // True for the first rank of this node that calls it.
  bool claim_report();

  void on_blocked(std::chrono::milliseconds deadline, Handler handler);
  // Where the node publishes its board from now on; the directory must exist. Files that cannot be written are left
  // out: their ranks are reported as unknown. Those of an earlier run are removed.
  void publish_in(const std::filesystem::path& directory);

 private:
  void watch();
  void publish();
  void check_blocked();
  std::vector<RankView> local_views() const;
  std::vector<RankView> all_views() const;  // with mutex_ held
  std::vector<std::filesystem::path> published_files() const;
  // Adds what a file of this job tells, as old as the file is at the time `now` of its file system.
  void read_views(const std::filesystem::path& path, std::filesystem::file_time_type now,
                  std::vector<RankView>& views) const;
  std::filesystem::file_time_type time_of_directory() const;
  std::filesystem::path file() const;

  const Board board_;
  const int world_size_;
  ProgressWriter writer_;
  mutable std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  bool ends_ = false;
  std::filesystem::path directory_;
  std::chrono::milliseconds deadline_{600'000};
  Handler handler_;
  std::optional<WaitClock> blocked_for_;
  int64_t blocked_since_ = 0;  // what blocked_for_ is about: its RankProgress::since
  std::thread thread_;
};

}  // namespace cadre::parallel
