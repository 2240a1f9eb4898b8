#include "data/utf8.h"

#include <cstring>

namespace cadre::data {
namespace {

struct LeadByte {
  size_t length;                          // of the code point; 0: never a lead byte
  unsigned char low = 0x80, high = 0xBF;  // of the second byte
};

LeadByte lead_byte(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};  // no surrogates
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};  // up to U+10FFFF
  return {0};
}

}  // namespace

Utf8Unit next_utf8_unit(std::string_view text) {
  const LeadByte lead = lead_byte(static_cast<unsigned char>(text[0]));
  if (lead.length == 0) return {1, false};
  for (size_t i = 1; i < lead.length; ++i) {
    if (i >= text.size()) return {i, false};
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool fits = i == 1 ? byte >= lead.low && byte <= lead.high : byte >= 0x80 && byte <= 0xBF;
    if (!fits) return {i, false};
  }
  return {lead.length, true};
}

size_t find_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    while (at + 8 <= text.size()) {
      uint64_t word;
      std::memcpy(&word, text.data() + at, sizeof(word));
      if (word & 0x8080808080808080u) break;
      at += 8;
    }
    if (at >= text.size()) break;
    const Utf8Unit unit = next_utf8_unit(text.substr(at));
    if (!unit.valid) return at;
    at += unit.length;
  }
  return kNoInvalidUtf8;
}

std::string replace_invalid_utf8(std::string_view text, Utf8Replacement& replaced) {
  std::string result;
  result.reserve(text.size() + 16);
  while (true) {
    const size_t bad = find_invalid_utf8(text);
    if (bad == kNoInvalidUtf8) return result.append(text);
    const Utf8Unit unit = next_utf8_unit(text.substr(bad));
    result.append(text.substr(0, bad)).append("\xEF\xBF\xBD");
    ++replaced.sequences;
    replaced.bytes += unit.length;
    text.remove_prefix(bad + unit.length);
  }
}

size_t utf8_boundary(std::string_view text, size_t position) {
  if (position >= text.size()) position = text.size();
  // A code point that reaches over `position` starts at most three bytes before it.
  for (size_t back = 1; back <= 3 && back <= position; ++back) {
    const char byte = text[position - back];
    if (is_utf8_continuation(byte)) continue;
    return lead_byte(static_cast<unsigned char>(byte)).length > back ? position - back : position;
  }
  return position;
}

}  // namespace cadre::data
