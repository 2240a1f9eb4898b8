#include "core/config/text_check.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>

namespace cadre::config {
namespace {

// The length of the well-formed UTF-8 sequence at the start of `text`, or 0 (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<std::uint8_t>(text[i]) : 0u; };
  const auto tail = [&](std::size_t i) { return (at(i) & 0xC0u) == 0x80u; };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool second = tail(1) && !(lead == 0xE0 && at(1) < 0xA0) && !(lead == 0xED && at(1) > 0x9F);
    return second && tail(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool second = tail(1) && !(lead == 0xF0 && at(1) < 0x90) && !(lead == 0xF4 && at(1) > 0x8F);
    return second && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

TextFault check_text(std::string_view text, std::size_t max_bytes, std::size_t max_brackets) {
  if (text.size() > max_bytes) return {fmt::format("{} bytes; at most {} are read", text.size(), max_bytes), 1, 1};
  int line = 1;
  int column = 1;
  std::size_t brackets = 0;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<std::uint8_t>(text[i]);
    const bool return_newline = byte == '\r' && i + 1 < text.size() && text[i + 1] == '\n';
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && !return_newline) || byte == 0x7F) {
      return {fmt::format("control character 0x{:02X}; a config is UTF-8 text", byte), line, column};
    }
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) return {fmt::format("byte 0x{:02X} is not UTF-8; a config is UTF-8 text", byte), line, column};
    if ((byte == '[' || byte == '{') && ++brackets > max_brackets) {
      return {fmt::format("more than {} lists and mappings", max_brackets), line, column};
    }
    line += byte == '\n';
    column = byte == '\n' ? 1 : column + 1;
    i += length;
  }
  return {};
}

bool has_colon(std::string_view text, std::size_t start, bool in_flow) {
  std::string_view line = text.substr(std::min(start, text.size()));
  line = line.substr(0, line.find('\n'));
  std::size_t at = 0;
  if (line.starts_with('"') || line.starts_with('\'')) {
    const char quote = line[0];
    for (at = 1; at < line.size(); ++at) {
      const bool doubled = quote == '\'' && line.substr(at, 2) == "''";
      if (doubled || (quote == '"' && line[at] == '\\')) {
        ++at;
      } else if (line[at] == quote) {
        break;
      }
    }
    const std::size_t next = line.find_first_not_of(" \t", at + 1);
    return next != line.npos && line[next] == ':';
  }
  constexpr std::string_view kFlow = ",[]{}";
  for (; at < line.size(); ++at) {
    const char next = at + 1 < line.size() ? line[at + 1] : ' ';
    if (line[at] == ':' && (next == ' ' || next == '\t' || next == '\r' || kFlow.find(next) != kFlow.npos)) return true;
    if (in_flow && kFlow.find(line[at]) != kFlow.npos) return false;
    if (line[at] == '#' && at > 0 && (line[at - 1] == ' ' || line[at - 1] == '\t')) return false;
  }
  return false;
}

std::string closed_text(std::string_view text) {
  const std::size_t last = text.rfind('\n');
  const std::string_view tail = text.substr(last == text.npos ? 0 : last + 1);
  std::string result(text);
  if (tail.find_first_not_of(" \t") == tail.npos) result += tail.empty() ? "#" : "\n#";
  return result;
}

std::string syntax_hint(std::string_view text, int line, std::string_view message) {
  if (message.find("EOF") != message.npos) return "; a quote is not closed";
  std::size_t start = 0;
  for (int i = 1; i < line && start != text.npos; ++i) {
    start = text.find('\n', start);
    start += start != text.npos;
  }
  if (start >= text.size()) return {};
  const std::string_view rest = text.substr(start);
  const std::string_view indentation = rest.substr(0, rest.find_first_not_of(" \t"));
  const bool tab = indentation.find('\t') != indentation.npos && message.find("tab") == message.npos;
  if (tab) return "; this line is indented with a tab, use spaces";
  if (message == "end of map not found") return "; is a colon missing, or the indentation wrong?";
  if (message == "illegal map value") return "; is there a colon too many, or is the indentation wrong?";
  return {};
}

}  // namespace cadre::config
