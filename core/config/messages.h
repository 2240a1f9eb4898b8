#pragma once
// Pieces of error messages: always one line, never long.

#include <string>
#include <string_view>

#include "core/config/document.h"

namespace cadre::config {

// In double quotes, control characters escaped, shortened to about 60 bytes.
std::string in_quotes(std::string_view text);

// `text` with control characters replaced by '?', so that it stays one line.
std::string one_line(std::string_view text);

// What a node is, for "got ...": `"text"`, `the string "text"`, `null`, `a list`, `a mapping`.
std::string describe(const Node& node);

}  // namespace cadre::config
