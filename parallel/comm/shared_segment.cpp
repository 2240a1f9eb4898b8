#include "parallel/comm/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>

namespace cadre::parallel {
namespace {

std::string fresh_name() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  return "/cadre-" + std::to_string(getpid()) + "-" + std::to_string(now);
}

// Null on failure.
char* map(const std::string& name, size_t bytes, bool creates) {
  const int flags = creates ? O_RDWR | O_CREAT | O_EXCL : O_RDWR;
  const int file = shm_open(name.c_str(), flags, S_IRUSR | S_IWUSR);
  if (file < 0) return nullptr;
  void* data = MAP_FAILED;
  if (!creates || posix_fallocate(file, 0, static_cast<off_t>(bytes)) == 0) {
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  close(file);
  return data == MAP_FAILED ? nullptr : static_cast<char*>(data);
}

}  // namespace

std::unique_ptr<SharedSegment> SharedSegment::create(Communicator& communicator, size_t bytes) {
  const bool creates = communicator.rank() == 0;
  std::string name = creates ? fresh_name() : "";
  char* data = creates ? map(name, bytes, true) : nullptr;
  name = communicator.gather_text(name, {"shared memory name"})[0];
  if (!creates) data = map(name, bytes, false);
  const auto states = communicator.gather_text(data != nullptr ? "ok" : "failed", {"shared memory"});
  if (creates) shm_unlink(name.c_str());
  std::unique_ptr<SharedSegment> segment;
  if (data != nullptr) segment.reset(new SharedSegment(data, bytes));
  const bool all = std::all_of(states.begin(), states.end(), [](const std::string& state) { return state == "ok"; });
  return all ? std::move(segment) : nullptr;
}

SharedSegment::~SharedSegment() { munmap(data_, bytes_); }

}  // namespace cadre::parallel
