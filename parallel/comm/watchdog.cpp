#include "parallel/comm/watchdog.h"

#include <fmt/core.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>

namespace cadre::parallel {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kHeartbeat{200};
constexpr int64_t kPublishEvery = 1'000'000'000;  // nanoseconds
constexpr int64_t kTakeOverAfter = 3 * kPublishEvery;
static_assert(sizeof(BoardHeader) <= sizeof(ProgressPage));
static_assert(std::is_trivially_copyable_v<RankView>);  // written to files

double seconds_since(int64_t then, int64_t now) { return static_cast<double>(std::max<int64_t>(0, now - then)) * 1e-9; }

template <class T>
bool read_value(std::istream& file, T& value) {
  return static_cast<bool>(file.read(reinterpret_cast<char*>(&value), sizeof(value)));
}

template <class T>
void write_value(std::ostream& file, const T& value) {
  file.write(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

std::shared_ptr<void> Board::private_memory(size_t ranks) {
  void* memory = ::operator new (bytes_for(ranks), std::align_val_t{64});
  std::memset(memory, 0, bytes_for(ranks));
  return {memory, [](void* p) { ::operator delete (p, std::align_val_t{64}); }};
}

Watchdog::Watchdog(Board board, int world_size)
    : board_(std::move(board)), world_size_(world_size), writer_(board_.page(board_.own), board_.ranks[board_.own]) {
  // Signals are for the threads that compute.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex_);
    ends_ = true;
  }
  wake_.notify_all();
  thread_.join();
  std::error_code ignored;
  if (!directory_.empty()) fs::remove(file(), ignored);
}

fs::path Watchdog::file() const { return directory_ / fmt::format("progress-{:05d}.bin", board_.ranks.front()); }

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    board_.page(board_.own).heartbeat.store(monotonic_nanoseconds(), std::memory_order_relaxed);
    if (!directory_.empty()) publish();
    check_blocked();
    wake_.wait_for(lock, kHeartbeat);
  }
}

// The lowest rank of the node does it, until it has not for a while.
void Watchdog::publish() {
  std::atomic<int64_t>& published_at = board_.header().published_at;
  const int64_t now = monotonic_nanoseconds();
  int64_t last = published_at.load();
  const int64_t patience = board_.own == 0 ? kPublishEvery : kTakeOverAfter;
  if (now - last < patience || !published_at.compare_exchange_strong(last, now)) return;
  const fs::path temporary = file().string() + fmt::format(".{}", getpid());
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    write_value(out, board_.job);
    for (const RankView& view : local_views()) write_value(out, view);
  }
  std::error_code ignored;
  fs::rename(temporary, file(), ignored);
}

void Watchdog::check_blocked() {
  const RankProgress own = board_.page(board_.own).read();
  if (own.activity != Activity::kBlocked) {
    blocked_for_.reset();
    return;
  }
  if (!blocked_for_ || own.since != blocked_since_) blocked_for_.emplace();
  blocked_since_ = own.since;
  const WaitClock::Duration waited = blocked_for_->look();
  if (!handler_ || waited < deadline_) return;
  const std::vector<RankView> all = all_views();
  const Handler handler = std::move(handler_);
  handler_ = nullptr;
  handler(fmt::format("rank {}: {} timed out after {:.1f} s; the job waits for rank {}{}", own.rank, own.blocked,
                      waited.count(), list_ranks(suspects(all)), report(all)));
}

std::vector<RankView> Watchdog::local_views() const {
  const int64_t now = monotonic_nanoseconds();
  std::vector<RankView> views;
  for (size_t i = 0; i < board_.ranks.size(); ++i) {
    const ProgressPage& page = board_.page(i);
    RankView view{page.read(), 0, 0};
    view.progress.rank = board_.ranks[i];
    if (view.progress.activity != Activity::kUnknown) {
      view.seconds = seconds_since(view.progress.since, now);
      view.silent = seconds_since(page.heartbeat.load(std::memory_order_relaxed), now);
    }
    views.push_back(view);
  }
  return views;
}

std::vector<RankView> Watchdog::views() const {
  std::lock_guard lock(mutex_);
  return all_views();
}

std::vector<RankView> Watchdog::all_views() const {
  std::vector<RankView> all(static_cast<size_t>(world_size_));
  for (size_t rank = 0; rank < all.size(); ++rank) all[rank].progress.rank = static_cast<int32_t>(rank);
  for (const RankView& view : local_views()) all[static_cast<size_t>(view.progress.rank)] = view;
  if (board_.ranks.size() == all.size() || directory_.empty()) return all;
  const fs::file_time_type now = time_of_directory();
  for (const fs::path& path : published_files()) read_views(path, now, all);
  return all;
}

std::vector<fs::path> Watchdog::published_files() const {
  std::vector<fs::path> paths;
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_, failed)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("progress-", 0) == 0 && entry.path().extension() == ".bin") paths.push_back(entry.path());
  }
  return paths;
}

// A file server's clock may differ from this node's; a file that is written now tells it.
fs::file_time_type Watchdog::time_of_directory() const {
  const fs::path probe = file().string() + fmt::format(".now.{}", getpid());
  std::ofstream(probe) << '\n';
  std::error_code failed;
  const fs::file_time_type time = fs::last_write_time(probe, failed);
  std::error_code ignored;
  fs::remove(probe, ignored);
  return failed ? fs::file_time_type::clock::now() : time;
}

// Opened before its time is asked for: opening is when a network file system looks for news.
void Watchdog::read_views(const fs::path& path, fs::file_time_type now, std::vector<RankView>& views) const {
  std::ifstream file(path, std::ios::binary);
  uint64_t job = 0;
  if (!read_value(file, job) || job != board_.job) return;
  std::error_code failed;
  const fs::file_time_type written = fs::last_write_time(path, failed);
  if (failed) return;
  // The newest file is up to a second old.
  const double late = std::max(0.0, std::chrono::duration<double>(now - written).count() - 1);
  RankView view;
  while (read_value(file, view)) {
    const int rank = view.progress.rank;
    if (rank < 0 || rank >= static_cast<int>(views.size())) return;
    view.seconds += late;
    view.silent += late;
    RankView& known = views[static_cast<size_t>(rank)];
    if (known.progress.activity == Activity::kUnknown) known = view;
  }
}

bool Watchdog::claim_report() {
  int32_t nobody = 0;
  return board_.header().reporter.compare_exchange_strong(nobody, board_.ranks[board_.own] + 1);
}

void Watchdog::on_blocked(std::chrono::milliseconds deadline, Handler handler) {
  std::lock_guard lock(mutex_);
  deadline_ = deadline;
  handler_ = std::move(handler);
}

void Watchdog::publish_in(const fs::path& directory) {
  std::lock_guard lock(mutex_);
  directory_ = directory;
  if (board_.ranks[board_.own] != 0) return;
  for (const fs::path& path : published_files()) {
    std::ifstream old(path, std::ios::binary);
    uint64_t job = 0;
    std::error_code ignored;
    if (!read_value(old, job) || job != board_.job) fs::remove(path, ignored);
  }
}

}  // namespace cadre::parallel
