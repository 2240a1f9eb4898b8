#include "data/prepare/input.h"

#include <fmt/core.h>

#include "core/error.h"

namespace cadre::data {

Input open_input(const InputRange& range) {
  InputFile file(range.path);
  const uint64_t size = file.size();
  const std::string name = range.path.string();
  if (size == 0) throw DataError(fmt::format("{}: the file is empty", name));
  const auto too_far = [&](std::string_view what, uint64_t got) {
    return DataError(fmt::format("{}: {}: got {}; the file has {} bytes", name, what, got, size));
  };
  uint64_t begin = range.offset, end = size;
  if (range.last) {
    if (range.offset != 0 || range.length) {
      throw DataError(fmt::format("{}: got last together with offset or length; wanted one of them", name));
    }
    if (*range.last > size) throw too_far("last", *range.last);
    begin = size - *range.last;
  }
  if (begin > size) throw too_far("offset", begin);
  if (range.skip_last > size) throw too_far("skip last", range.skip_last);
  if (range.length) {
    if (*range.length > size - begin) throw too_far("offset + length", begin + *range.length);
    end = begin + *range.length;
  }
  end = std::min(end, size - range.skip_last);
  if (begin >= end) throw DataError(fmt::format("{}: the range holds no bytes of the file's {}", name, size));
  TextFormat format = range.format;
  if (format == TextFormat::kAuto) {
    const std::string extension = range.path.extension().string();
    format = extension == ".jsonl" || extension == ".ndjson" ? TextFormat::kJsonl : TextFormat::kText;
  }
  return {std::move(file), format, begin, end};
}

}  // namespace cadre::data
