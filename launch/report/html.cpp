#include "launch/report/html.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "launch/monitor/quantity.h"

namespace cadre::launch {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";

// Bytes of the UTF-8 sequence at the start of `text`; 0 when there is none. Overlong forms and surrogates are not
// looked for: a browser replaces them.
size_t sequence_length(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const size_t length = first < 0x80   ? 1
                        : first < 0xC2 ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
  if (length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string safe;
  while (!text.empty()) {
    const size_t length = sequence_length(text);
    const char c = text[0];
    if (length > 1) {
      safe += text.substr(0, length);
    } else if (length == 0 || c == 0x7f || (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')) {
      safe += kReplacement;
    } else if (c == '<') {
      safe += "&lt;";
    } else if (c == '>') {
      safe += "&gt;";
    } else if (c == '&') {
      safe += "&amp;";
    } else if (c == '"') {
      safe += "&quot;";
    } else {
      safe += c;
    }
    text.remove_prefix(std::max<size_t>(1, length));
  }
  return safe;
}

std::string figure(double value) {
  if (!std::isfinite(value)) return "–";
  const double size = std::abs(value);
  if (size >= 10000) return count_text(value);
  if (size >= 100) return fmt::format("{:.0f}", value);
  return fmt::format("{:.3g}", value);
}

std::string whole(int64_t value) {
  std::string digits = std::to_string(value);
  for (size_t at = digits.size(); at > (value < 0 ? 4u : 3u);) digits.insert(at -= 3, 1, ',');
  return digits;
}

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) text += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63];
  }
  return text;
}

}  // namespace cadre::launch
