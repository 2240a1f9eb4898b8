#pragma once
// Well-formed UTF-8 (Unicode 15, table 3-7) and the replacement of what is not, one U+FFFD for each maximal subpart
// (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts").

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cadre::data {

inline constexpr size_t kNoInvalidUtf8 = static_cast<size_t>(-1);

constexpr bool is_utf8_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// One step: the bytes at the front of `text` that are one code point, or one maximal subpart of an ill-formed one.
struct Utf8Unit {
  size_t length;  // at least 1
  bool valid;
};
Utf8Unit next_utf8_unit(std::string_view text);  // text is not empty

// Offset of the first byte that does not start a well-formed code point, or kNoInvalidUtf8.
size_t find_invalid_utf8(std::string_view text);

struct Utf8Replacement {
  uint64_t sequences = 0;  // U+FFFD written
  uint64_t bytes = 0;      // source bytes that they stand for
};
// `text` with every ill-formed sequence replaced.
std::string replace_invalid_utf8(std::string_view text, Utf8Replacement& replaced);

// The largest position <= `position` that splits no code point, valid text or not: at most three bytes less.
size_t utf8_boundary(std::string_view text, size_t position);

}  // namespace cadre::data
