#pragma once
// Files as the data room needs them: reads that say what is missing, writes that appear whole or not at all.
// Every failure is a DataError that names the file.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cadre::data {

// A file opened for reading at any place; safe to use from several threads. Reads go through pread, not a mapping, so a
// file that shrinks while it is used is an error and not a SIGBUS.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const { return size_; }  // bytes when it was opened
  // Exactly out.size() bytes from `offset`; a short read throws.
  void read(uint64_t offset, std::span<std::byte> out) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

// A whole file mapped read-only.
class MappedFile {
 public:
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

// A file that is written as PATH.tmp and takes its name in publish(), after fsync. Dropped unpublished, it is removed.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  template <class T>
  void write_value(const T& value) {
    write(std::as_bytes(std::span(&value, 1)));
  }
  uint64_t size() const { return size_; }  // bytes written so far
  const std::filesystem::path& temporary_path() const { return temporary_; }
  // Flushes, fsyncs and closes; publish() is then only a rename.
  void finish();
  void publish();

 private:
  void flush();

  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
  std::vector<std::byte> buffer_;
  bool published_ = false;
};

// Makes a rename in `directory` ("" is the current one) survive a crash.
void sync_directory(const std::filesystem::path& directory);
void make_directories(const std::filesystem::path& directory);

std::string read_text_file(const std::filesystem::path& path);
void write_text_file(const std::filesystem::path& path, std::string_view text);

}  // namespace cadre::data
