#include "data/files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace cadre::data {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

[[noreturn]] void fail(const std::filesystem::path& path, std::string_view action) {
  throw DataError(fmt::format("{}: cannot {}: {}", path.string(), action, std::strerror(errno)));
}

int open_for_reading(const std::filesystem::path& path, uint64_t& size) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(path, "open");
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    ::close(descriptor);
    fail(path, "stat");
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw DataError(fmt::format("{}: not a regular file", path.string()));
  }
  size = static_cast<uint64_t>(status.st_size);
  return descriptor;
}

}  // namespace

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = open_for_reading(path_, size_);
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

void InputFile::read(uint64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::pread(descriptor_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path_, fmt::format("read {} bytes at byte {}", out.size(), offset));
    if (got == 0) {
      throw DataError(fmt::format("{}: ends before byte {}; wanted {} bytes from byte {}", path_.string(),
                                  offset + done, out.size(), offset));
    }
    done += static_cast<size_t>(got);
  }
}

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
  uint64_t size = 0;
  const int descriptor = open_for_reading(path_, size);
  if (size > 0) {
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (address == MAP_FAILED) {
      ::close(descriptor);
      fail(path_, "map");
    }
    bytes_ = {static_cast<const std::byte*>(address), size};
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

OutputFile::OutputFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_) {
  temporary_ += ".tmp";
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail(temporary_, "create");
  buffer_.reserve(kBufferBytes);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!published_) ::unlink(temporary_.c_str());
}

void OutputFile::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  while (!bytes.empty()) {
    const size_t take = std::min(bytes.size(), kBufferBytes - buffer_.size());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(take));
    bytes = bytes.subspan(take);
    if (buffer_.size() == kBufferBytes) flush();
  }
}

void OutputFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void OutputFile::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t put = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail(temporary_, "write");
    done += static_cast<size_t>(put);
  }
  buffer_.clear();
}

void OutputFile::finish() {
  if (descriptor_ < 0) return;
  flush();
  if (::fsync(descriptor_) != 0) fail(temporary_, "fsync");
  if (::close(std::exchange(descriptor_, -1)) != 0) fail(temporary_, "close");
}

void OutputFile::publish() {
  finish();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "rename into place");
  published_ = true;
}

void sync_directory(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory.empty() ? "." : directory;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(path, "open directory");
  const int status = ::fsync(descriptor);
  ::close(descriptor);
  if (status != 0) fail(path, "fsync directory");
}

void make_directories(const std::filesystem::path& directory) {
  if (directory.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw DataError(fmt::format("{}: cannot create directory: {}", directory.string(), error.message()));
}

std::string read_text_file(const std::filesystem::path& path) {
  const InputFile file(path);
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void write_text_file(const std::filesystem::path& path, std::string_view text) {
  make_directories(path.parent_path());
  OutputFile file(path);
  file.write(text);
  file.publish();
  sync_directory(path.parent_path());
}

}  // namespace cadre::data
