#pragma once
// Files that survive a crash, and read-only mappings.
//
// What "durable" needs: write everything, fsync the file, and fsync the directory that names it. Every failure (disk
// full, read-only or vanished directory, ...) is a CheckpointError that names the path and the system's reason; a file
// that was begun and not committed is removed.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace cadre {

using Bytes = std::span<const std::byte>;
Bytes bytes_of(std::string_view text);

// A new file under construction; refuses to overwrite. Destroyed before commit(), it removes the file.
class DurableFile {
 public:
  explicit DurableFile(std::filesystem::path path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(Bytes bytes);
  // Asks the kernel to start writing to the disk, so that commit() waits less. Never fails.
  void start_writeback();
  // fsync and close; the directory is the caller's to sync.
  void commit();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

// Replaces `path` in one step: a temporary file beside it, fsync, rename, fsync of the directory. Readers see the old
// or the new contents, never a mixture; on failure the old contents stay.
void atomic_write(const std::filesystem::path& path, Bytes bytes);

void sync_directory(const std::filesystem::path& directory);
// Creates `directory` and its missing parents, durably.
void create_directories_durably(const std::filesystem::path& directory);
// rename(2), then fsync of the parent. An existing file, or an existing empty directory, is replaced.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);
// Best effort: false when something is left.
bool remove_tree(const std::filesystem::path& path) noexcept;

// The whole file; refused when larger than `limit` bytes.
std::string read_file(const std::filesystem::path& path, uint64_t limit);

// A read-only mapping of a whole regular file. The file must not be truncated while it is mapped; it may be deleted.
class MappedFile {
 public:
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  Bytes bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace cadre
