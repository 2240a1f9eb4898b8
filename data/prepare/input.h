#pragma once
// What text comes from: a byte range of a text or JSONL file.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/files.h"

namespace cadre::data {

enum class TextFormat { kAuto, kText, kJsonl };  // kAuto: .jsonl and .ndjson are JSONL, the rest text

struct InputRange {
  std::filesystem::path path;
  TextFormat format = TextFormat::kAuto;
  uint64_t offset = 0;             // first byte
  std::optional<uint64_t> length;  // none: to the end
  uint64_t skip_last = 0;          // bytes left out at the end of the file, e.g. to hold them out
  std::optional<uint64_t> last;    // only the last so many bytes of the file; instead of offset and length
};

// An opened range. Text is taken exactly from begin to end. A JSONL line belongs to the range that holds its first
// byte, so that adjacent ranges share out the lines.
struct Input {
  InputFile file;
  TextFormat format;  // not kAuto
  uint64_t begin = 0, end = 0;

  std::string name() const { return file.path().string(); }
};

// Throws DataError when the file cannot be opened, is empty, or does not hold the range.
Input open_input(const InputRange& range);

}  // namespace cadre::data
