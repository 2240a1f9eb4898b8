#pragma once
// The safetensors format (https://github.com/huggingface/safetensors): u64 header length, a JSON header, the data, all
// little-endian. Its metadata are texts; this program's files hold the XXH3-128 of the data there, so that damage is
// noticed.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "core/tensor.h"

namespace cadre {

using TextMap = std::map<std::string, std::string>;

// By name. Replaces the file in one step (atomic_write). Throws CheckpointError.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       TextMap metadata);

class SafetensorsFile {
 public:
  struct Entry {
    Dtype dtype = Dtype::kF32;
    Shape shape;
    size_t begin = 0, end = 0;  // of the data
  };

  // Throws CheckpointError naming the path on anything that is no such file, whole and undamaged: types that are not
  // known, offsets that leave gaps or overlap, a hash that differs.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const TextMap& metadata() const { return metadata_; }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  Bytes data_of(const Entry& entry) const {
    return file_.bytes().subspan(data_ + entry.begin, entry.end - entry.begin);
  }

 private:
  void read_header();
  void check_offsets(size_t size) const;

  MappedFile file_;
  size_t data_ = 0;  // where they begin
  TextMap metadata_;
  std::map<std::string, Entry> entries_;
};

}  // namespace cadre
