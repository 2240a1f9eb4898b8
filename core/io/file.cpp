#include "core/io/file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/error.h"

namespace cadre {
namespace {

namespace fs = std::filesystem;

// One write call moves at most 2 GiB on Linux; smaller pieces let a signal or a full disk be noticed sooner.
constexpr size_t kWriteBytes = size_t{64} << 20;

[[noreturn]] void fail(const fs::path& path, std::string_view doing, int code) {
  throw CheckpointError(fmt::format("{}: cannot {}: {}", path.string(), doing, std::generic_category().message(code)));
}

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, std::string_view doing)
      : value_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (value_ < 0) fail(path, doing, errno);
  }
  ~Descriptor() { ::close(value_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return value_; }

 private:
  int value_;
};

fs::path parent_of(const fs::path& path) {
  const fs::path clean = path.has_filename() ? path : path.parent_path();
  const fs::path parent = clean.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

uint64_t regular_file_size(const fs::path& path, int descriptor) {
  struct stat info {};
  if (::fstat(descriptor, &info) != 0) fail(path, "inspect", errno);
  if (!S_ISREG(info.st_mode)) throw CheckpointError(fmt::format("{}: is not a regular file", path.string()));
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace

Bytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

DurableFile::DurableFile(fs::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail(path_, "create", errno);
}

DurableFile::~DurableFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(path_.c_str());
}

void DurableFile::write(Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kWriteBytes));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(path_, fmt::format("write {} bytes", bytes.size()), errno);
    }
    if (written == 0) fail(path_, fmt::format("write {} bytes", bytes.size()), ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void DurableFile::start_writeback() {
#ifdef __linux__
  ::sync_file_range(descriptor_, 0, 0, SYNC_FILE_RANGE_WRITE);
#endif
}

void DurableFile::commit() {
  if (::fsync(descriptor_) != 0) fail(path_, "fsync", errno);
  // Network file systems report a full disk or quota only here. The descriptor is gone whatever close() says.
  const int closed = ::close(descriptor_);
  const int code = errno;
  descriptor_ = -1;
  if (closed != 0) {
    ::unlink(path_.c_str());
    fail(path_, "close", code);
  }
}

void atomic_write(const fs::path& path, Bytes bytes) {
  const fs::path temporary = path.string() + fmt::format(".tmp-{}", ::getpid());
  ::unlink(temporary.c_str());  // left by a dead process that had this number
  DurableFile file(temporary);
  file.write(bytes);
  file.commit();
  try {
    rename_durably(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void sync_directory(const fs::path& directory) {
  const Descriptor descriptor(directory, O_RDONLY | O_DIRECTORY, "open the directory");
  // Some file systems cannot sync a directory and say EINVAL; there is nothing more to do on them.
  if (::fsync(descriptor.value()) != 0 && errno != EINVAL) fail(directory, "fsync the directory", errno);
}

void create_directories_durably(const fs::path& directory) {
  if (fs::is_directory(directory)) return;
  const fs::path parent = parent_of(directory);
  if (parent != directory) create_directories_durably(parent);
  const fs::path clean = directory.has_filename() ? directory : directory.parent_path();
  if (::mkdir(clean.c_str(), 0755) != 0 && !(errno == EEXIST && fs::is_directory(clean))) {
    fail(clean, "create the directory", errno);
  }
  sync_directory(parent);
}

void rename_durably(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail(from, fmt::format("rename to {}", to.string()), errno);
  sync_directory(parent_of(to));
}

bool remove_tree(const fs::path& path) noexcept {
  std::error_code failure;
  fs::remove_all(path, failure);
  return !failure;
}

std::string read_file(const fs::path& path, uint64_t limit) {
  const Descriptor descriptor(path, O_RDONLY, "open");
  const uint64_t size = regular_file_size(path, descriptor.value());
  if (size > limit) {
    throw CheckpointError(fmt::format("{}: has {} bytes, more than the {} allowed", path.string(), size, limit));
  }
  std::string text(static_cast<size_t>(size), '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = ::read(descriptor.value(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path, "read", errno);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  text.resize(filled);
  return text;
}

MappedFile::MappedFile(fs::path path) : path_(std::move(path)) {
  const Descriptor descriptor(path_, O_RDONLY, "open");
  size_ = static_cast<size_t>(regular_file_size(path_, descriptor.value()));
  if (size_ == 0) return;
  data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.value(), 0);
  if (data_ == MAP_FAILED) fail(path_, "map", errno);
  ::madvise(data_, size_, MADV_SEQUENTIAL);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace cadre
