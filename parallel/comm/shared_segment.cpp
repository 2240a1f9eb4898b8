#include "parallel/comm/shared_segment.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>

namespace cadre::parallel {
namespace {

namespace fs = std::filesystem;

// An open file; -1: none.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const { return number_; }
  // Which file it is, wherever it is opened; 0 for none.
  uint64_t identity() const {
    struct stat status {};
    return number_ >= 0 && fstat(number_, &status) == 0 ? status.st_ino : 0;
  }

 private:
  int number_;
};

enum class Kind { kNameless, kTemporaryFile };

fs::path temporary_path() {
  std::error_code failed;
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  return fs::temp_directory_path(failed) / fmt::format("cadre-{}-{}", getpid(), now);
}

// Null on failure.
char* map(const Descriptor& file, size_t bytes) {
  if (file.number() < 0) return nullptr;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.number(), 0);
  return data == MAP_FAILED ? nullptr : static_cast<char*>(data);
}

bool reserve(const Descriptor& file, size_t bytes) {
  return file.number() >= 0 && posix_fallocate(file.number(), 0, static_cast<off_t>(bytes)) == 0;
}

// Null on every rank when any rank failed. Rank 0 tells the others a path and which file they should find there: in
// another container it could be another one.
char* share(Communicator& communicator, size_t bytes, Kind kind) {
  const bool creates = communicator.rank() == 0;
  const std::string temporary = creates && kind == Kind::kTemporaryFile ? temporary_path().string() : "";
  const int made = !creates            ? -1
                   : temporary.empty() ? memfd_create("cadre", MFD_CLOEXEC)
                                       : open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const Descriptor own(made);
  char* data = reserve(own, bytes) ? map(own, bytes) : nullptr;
  const std::string path = temporary.empty() ? fmt::format("/proc/{}/fd/{}", getpid(), made) : temporary;
  const std::string told = communicator.gather_text(fmt::format("{} {}", own.identity(), path), {"shared memory"})[0];
  if (!creates) {
    const size_t space = told.find(' ');
    const Descriptor found(open(told.c_str() + space + 1, O_RDWR | O_CLOEXEC));
    if (found.number() >= 0 && std::to_string(found.identity()) == told.substr(0, space)) data = map(found, bytes);
  }
  const auto states = communicator.gather_text(data != nullptr ? "ok" : "failed", {"shared memory is open"});
  if (!temporary.empty()) unlink(temporary.c_str());
  if (std::all_of(states.begin(), states.end(), [](const std::string& state) { return state == "ok"; })) return data;
  if (data != nullptr) munmap(data, bytes);
  return nullptr;
}

}  // namespace

std::unique_ptr<SharedSegment> SharedSegment::create(Communicator& communicator, size_t bytes, bool or_file) {
  char* data = share(communicator, bytes, Kind::kNameless);
  if (data == nullptr && or_file) data = share(communicator, bytes, Kind::kTemporaryFile);
  return data == nullptr ? nullptr : std::unique_ptr<SharedSegment>(new SharedSegment(data, bytes));
}

SharedSegment::~SharedSegment() { munmap(data_, bytes_); }

}  // namespace cadre::parallel
