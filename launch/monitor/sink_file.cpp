#include "launch/monitor/sink_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace cadre::launch {
namespace {

SinkError failure(const std::filesystem::path& path, int reason) {
  return SinkError(path.string() + ": " + std::generic_category().message(reason));
}

class Guarded final : public Observer {
 public:
  Guarded(std::string name, std::unique_ptr<Observer> inner, Logger& logger)
      : name_(std::move(name)), inner_(std::move(inner)), logger_(logger) {}

  void on_start(const RunInfo& info) override {
    pass([&] { inner_->on_start(info); });
  }
  void on_step(const StepMetrics& metrics) override {
    pass([&] { inner_->on_step(metrics); });
  }
  void on_checkpoint(int64_t step, const std::string& directory, double seconds) override {
    pass([&] { inner_->on_checkpoint(step, directory, seconds); });
  }
  void on_finish() override {
    pass([&] { inner_->on_finish(); });
  }

 private:
  template <class F>
  void pass(F&& call) {
    if (!inner_) return;
    try {
      call();
    } catch (const std::exception& error) {
      inner_.reset();
      logger_.warning(fmt::format("{}: {}; nothing more goes there, training goes on", name_, error.what()));
    }
  }

  std::string name_;
  std::unique_ptr<Observer> inner_;
  Logger& logger_;
};

}  // namespace

SinkFile::SinkFile(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) throw failure(path_, errno);
}

SinkFile::~SinkFile() { ::close(descriptor_); }

void SinkFile::append(std::string_view record) {
  struct stat before;
  if (::fstat(descriptor_, &before) != 0) throw failure(path_, errno);
  if (before.st_nlink == 0) throw SinkError(path_.string() + ": the file has been deleted");
  while (!record.empty()) {
    const ssize_t written = ::write(descriptor_, record.data(), record.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int reason = written < 0 ? errno : ENOSPC;
      if (S_ISREG(before.st_mode)) (void)!::ftruncate(descriptor_, before.st_size);
      throw failure(path_, reason);
    }
    record.remove_prefix(static_cast<size_t>(written));
  }
}

std::unique_ptr<Observer> guarded(std::string name, std::unique_ptr<Observer> inner, Logger& logger) {
  return std::make_unique<Guarded>(std::move(name), std::move(inner), logger);
}

}  // namespace cadre::launch
