#include "parallel/comm/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>

namespace cadre::parallel {
namespace {

std::string fresh_name() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  return "cadre-" + std::to_string(getpid()) + "-" + std::to_string(now);
}

// Names of shared memory begin with a slash and have no other; those of files begin with "file:".
constexpr char kFilePrefix[] = "file:";
bool is_file(const std::string& name) { return name.rfind(kFilePrefix, 0) == 0; }
std::string path_of(const std::string& name) { return name.substr(sizeof(kFilePrefix) - 1); }

int open_name(const std::string& name, int flags) {
  if (is_file(name)) return open(path_of(name).c_str(), flags | O_CLOEXEC, S_IRUSR | S_IWUSR);
  return shm_open(name.c_str(), flags, S_IRUSR | S_IWUSR);
}

void unlink_name(const std::string& name) {
  if (is_file(name)) {
    unlink(path_of(name).c_str());
  } else {
    shm_unlink(name.c_str());
  }
}

// Null on failure.
char* map(const std::string& name, size_t bytes, bool creates) {
  const int flags = creates ? O_RDWR | O_CREAT | O_EXCL : O_RDWR;
  const int file = open_name(name, flags);
  if (file < 0) return nullptr;
  void* data = MAP_FAILED;
  if (!creates || posix_fallocate(file, 0, static_cast<off_t>(bytes)) == 0) {
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  close(file);
  return data == MAP_FAILED ? nullptr : static_cast<char*>(data);
}

}  // namespace

std::unique_ptr<SharedSegment> SharedSegment::create(Communicator& communicator, size_t bytes, bool or_file) {
  const bool creates = communicator.rank() == 0;
  std::string name;
  char* data = nullptr;
  if (creates) {
    name = "/" + fresh_name();
    data = map(name, bytes, true);
  }
  if (creates && data == nullptr && or_file) {
    unlink_name(name);
    std::error_code failed;
    name = kFilePrefix + (std::filesystem::temp_directory_path(failed) / fresh_name()).string();
    data = map(name, bytes, true);
  }
  name = communicator.gather_text(name, {"shared memory name"})[0];
  if (!creates) data = map(name, bytes, false);
  const auto states = communicator.gather_text(data != nullptr ? "ok" : "failed", {"shared memory"});
  if (creates) unlink_name(name);
  std::unique_ptr<SharedSegment> segment;
  if (data != nullptr) segment.reset(new SharedSegment(data, bytes));
  const bool all = std::all_of(states.begin(), states.end(), [](const std::string& state) { return state == "ok"; });
  return all ? std::move(segment) : nullptr;
}

SharedSegment::~SharedSegment() { munmap(data_, bytes_); }

}  // namespace cadre::parallel
