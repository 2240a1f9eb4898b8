#pragma once
// What a config's bytes must satisfy before yaml-cpp sees them.

#include <cstddef>
#include <string>
#include <string_view>

namespace cadre::config {

struct TextFault {
  std::string text;  // empty: no fault
  int line = 0;
  int column = 0;
};

// The first fault: too many bytes, not UTF-8, a control character other than tab and newline (yaml-cpp takes 0x04 for
// the end of the file), a carriage return without newline, or more opening brackets than `max_brackets` (yaml-cpp
// queues a token for each before the first event, so that its memory would not be bounded otherwise).
TextFault check_text(std::string_view text, std::size_t max_bytes, std::size_t max_brackets);

// Whether the key that starts at `start`, a plain word or in quotes, has its colon on the same line. (yaml-cpp takes
// `{b}` for a key whose value is null.)
bool has_colon(std::string_view text, std::size_t start, bool in_flow);

// The text for yaml-cpp: a comment without newline closes a last blank line, since yaml-cpp notices an unclosed quote
// only when the file ends within a line.
std::string closed_text(std::string_view text);

// More to say about a syntax error on `line` (from 1): "; a quote is not closed", or "".
std::string syntax_hint(std::string_view text, int line, std::string_view message);

}  // namespace cadre::config
