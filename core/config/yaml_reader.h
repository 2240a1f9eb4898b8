#pragma once
// One YAML text to one tree, under the strict rules of document.h.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "core/config/document.h"

namespace cadre::config {

// What all texts of one config may use together; reading takes from it.
struct Budget {
  explicit Budget(const Limits& bounds) : limits(bounds), nodes(bounds.nodes), bytes(bounds.expanded_bytes) {}
  Limits limits;
  std::size_t nodes;
  std::size_t bytes;
};

// `single_line`: the text is a command-line value, so that locations name only the source.
Node read_yaml(std::shared_ptr<const std::string> source, std::string_view text, Budget& budget,
               bool single_line = false);

}  // namespace cadre::config
