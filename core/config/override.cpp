// `--set a.b[0].c=VALUE`.
#include <fmt/core.h>

#include <charconv>
#include <memory>
#include <utility>
#include <vector>

#include "core/config/codec.h"
#include "core/config/document.h"
#include "core/config/messages.h"
#include "core/config/yaml_reader.h"
#include "core/error.h"

namespace cadre::config {
namespace {

struct Step {
  std::string key;  // empty: an index
  std::size_t index = 0;
  std::string path;  // up to and with this step, for messages
};

[[noreturn]] void refuse(std::string_view assignment) {
  throw ConfigError("--set " + in_quotes(assignment) +
                    ": wanted KEY=VALUE, such as optimizer.lr=1e-3 or train[0].weight=2");
}

std::vector<Step> split(std::string_view path, std::string_view assignment) {
  std::vector<Step> steps;
  std::size_t at = 0;
  while (at < path.size()) {
    Step step;
    if (path[at] == '[') {
      const char* const first = path.data() + at + 1;
      const auto [end, error] = std::from_chars(first, path.data() + path.size(), step.index);
      if (error != std::errc() || end == path.data() + path.size() || *end != ']' || steps.empty()) refuse(assignment);
      at = static_cast<std::size_t>(end - path.data()) + 1;
    } else {
      if (!steps.empty() && path[at++] != '.') refuse(assignment);
      const std::size_t end = std::min(path.find_first_of(".[]", at), path.size());
      step.key = path.substr(at, end - at);
      if (step.key.empty() || step.key.size() > 256 || one_line(step.key) != step.key) refuse(assignment);
      at = end;
    }
    step.path = path.substr(0, at);
    steps.push_back(std::move(step));
  }
  if (steps.empty()) refuse(assignment);
  return steps;
}

const Codec* without_optional(const Codec* codec) {
  while (codec != nullptr && codec->form() == Codec::Form::kOptional) codec = codec->element();
  return codec;
}

// The codec one step below `codec`, or null when the schema does not know (the parse will say so).
const Codec* below(const Codec* codec, const Step& step) {
  codec = without_optional(codec);
  if (codec == nullptr) return nullptr;
  switch (codec->form()) {
    case Codec::Form::kStruct: {
      const Field* field = step.key.empty() ? nullptr : codec->as_struct()->find(step.key);
      return field == nullptr ? nullptr : field->codec.get();
    }
    case Codec::Form::kList: return step.key.empty() ? codec->element() : nullptr;
    case Codec::Form::kMap: return step.key.empty() ? nullptr : codec->element();
    default: return nullptr;
  }
}

std::string place(const Node& node) {
  return node.location.known() ? describe(node) + " (" + node.location.text() + ")" : describe(node);
}

// Enters `node` by one step, creating a key that is not there.
Node& enter(Node& node, const Step& step, const std::string& parent, const Location& where, const Codec* codec) {
  codec = without_optional(codec);
  if (!step.key.empty()) {
    if (codec != nullptr && codec->as_struct() != nullptr) node = codec->as_struct()->expand(node);
    if (node.kind == Node::Kind::kNull) {
      node = Node{};
      node.kind = Node::Kind::kMapping;
      node.location = where;
    }
    if (node.kind != Node::Kind::kMapping) {
      throw ConfigError(fmt::format("{}: {} is {}, not a mapping", where.text(), parent, place(node)));
    }
    if (Node* found = node.find(step.key)) return *found;
    return node.put(step.key, where, Node{});
  }
  if (node.kind != Node::Kind::kSequence) {
    throw ConfigError(
        fmt::format("{}: {} is {}, not a list that the config writes", where.text(), parent, place(node)));
  }
  if (step.index >= node.items.size()) {
    throw ConfigError(fmt::format("{}: {} has {} items; the last is [{}]", where.text(), parent, node.items.size(),
                                  static_cast<long>(node.items.size()) - 1));
  }
  return node.items[step.index];
}

}  // namespace

void apply_override(Document& document, std::string_view assignment, const Codec* schema, const Limits& limits) {
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos) refuse(assignment);
  const std::string_view path = assignment.substr(0, equals);
  const std::vector<Step> steps = split(path, assignment);
  const Location where{std::make_shared<const std::string>("--set " + std::string(path)), 0, 0};
  if (static_cast<int>(steps.size()) > limits.depth) throw ConfigError(where.text() + ": nested too deep");
  if (steps.front().key == "include") throw ConfigError(where.text() + ": only a file can include");
  if (assignment.find_first_not_of(" \t\r\n", equals + 1) == std::string_view::npos) {
    throw ConfigError(where.text() + ": no value; write null, or \"\" for an empty string");
  }
  Budget budget(limits);
  budget.limits.depth = limits.depth - static_cast<int>(steps.size()) + 1;
  const std::size_t last = assignment.find_last_not_of(" \t\r\n");
  Node value = read_yaml(where.source, assignment.substr(equals + 1, last - equals), budget, true);

  Node* node = &document.root;
  const Codec* codec = schema;
  std::string parent;
  for (const Step& step : steps) {
    node = &enter(*node, step, parent, where, codec);
    codec = below(codec, step);
    parent = step.path;
  }
  *node = std::move(value);
}

}  // namespace cadre::config
