#pragma once
// A tree to YAML text that document.h's reader reads back to the same tree.

#include <string>
#include <string_view>

#include "core/config/document.h"

namespace cadre::config {

// Block style, two spaces of indentation; lists of scalars in flow style. With `provenance` every line that holds a
// value ends in "# file:line" of its node, or "# default".
std::string write_yaml(const Node& root, bool provenance);

// One node in flow style: `[1, 2]`, `{a: 1}`, `"two words"`.
std::string write_flow(const Node& node);

// A scalar node of plain words or digits, and one of any characters (quoted when it could read as something else).
Node plain_scalar(std::string text, const Node* from);
Node string_scalar(std::string text, const Node* from);

}  // namespace cadre::config
