#include <fmt/core.h>

#include <utility>

#include "core/config/codec.h"
#include "core/config/messages.h"
#include "core/error.h"

namespace cadre::config {

Field& StructCodec::add(Field field) {
  if (find(field.key) != nullptr) throw InternalError(fmt::format("field list: \"{}\" is there twice", field.key));
  return fields_.emplace_back(std::move(field));
}

const Field* StructCodec::find(std::string_view key) const {
  for (const Field& field : fields_) {
    if (field.key == key) return &field;
  }
  return nullptr;
}

const Field* StructCodec::shorthand() const {
  for (const Field& field : fields_) {
    if (field.is_shorthand) return &field;
  }
  return nullptr;
}

std::string StructCodec::type_name() const {
  const Field* shortest = shorthand();
  return shortest == nullptr ? "mapping" : fmt::format("mapping, or {} alone", shortest->key);
}

Node StructCodec::expand(const Node& node) const {
  const Field* field = shorthand();
  if (field == nullptr || node.kind == Node::Kind::kMapping || node.kind == Node::Kind::kNull) return node;
  Node mapping;
  mapping.kind = Node::Kind::kMapping;
  mapping.location = node.location;
  mapping.put(field->key, node.location, node);
  return mapping;
}

void StructCodec::read(const Node& node, const Range&, void* value, Problems& problems) const {
  const Field* field = shorthand();
  if (node.kind == Node::Kind::kMapping) {
    read_fields(&node, value, problems);
  } else if (field == nullptr || node.kind == Node::Kind::kNull) {
    problems.add("", fmt::format("got {}, wanted a {}", describe(node), type_name()));
  } else {
    const Node mapping = expand(node);
    const Problems::Scope scope(problems, "", &mapping);
    read_fields(&mapping, value, problems);
  }
}

void StructCodec::read_default(void* value, Problems& problems) const { read_fields(nullptr, value, problems); }

void StructCodec::read_fields(const Node* node, void* value, Problems& problems) const {
  const int before = problems.count();
  if (node != nullptr) report_unknown(*node, problems);
  for (const Field& field : fields_) {
    const Node* child = node == nullptr ? nullptr : node->find(field.key);
    if (child == nullptr && field.is_required) {
      problems.add(field.key, "missing; it has no default");
      continue;
    }
    const Problems::Scope scope(problems, field.key, child);
    void* const member = field.access(value);
    if (child != nullptr) {
      field.codec->read(*child, field.range, member, problems);
    } else {
      field.codec->read_default(member, problems);
    }
  }
  if (operations_.check != nullptr && problems.count() == before) operations_.check(value, problems);
}

void StructCodec::report_unknown(const Node& node, Problems& problems) const {
  std::vector<std::string> candidates;
  for (const Field& field : fields_) candidates.push_back(field.key);
  for (std::size_t i = 0; i < node.keys.size(); ++i) {
    if (find(node.keys[i]) != nullptr || problems.list_unknown(node.keys[i])) continue;
    std::string hint = problems.full() ? "" : suggestion(node.keys[i], candidates);
    if (!hint.starts_with("; did") && !problems.full()) {
      const std::string below = find_below(node.keys[i]);
      if (!below.empty()) hint = fmt::format("; did you mean \"{}\"?", below);
    }
    problems.add_at(node.key_locations[i], node.keys[i], "unknown key" + hint);
  }
}

std::string StructCodec::find_below(std::string_view key) const {
  for (const Field& field : fields_) {
    const StructCodec* inner = field.codec->as_struct();
    if (inner == nullptr) continue;
    if (inner->find(key) != nullptr) return join_key(field.key, key);
    const std::string deeper = inner->find_below(key);
    if (!deeper.empty()) return join_key(field.key, deeper);
  }
  return {};
}

Node StructCodec::write(const void* value, const Node* from) const {
  const Node expanded = from == nullptr ? Node{} : expand(*from);
  Node node;
  node.kind = Node::Kind::kMapping;
  node.location = expanded.location;
  for (const Field& field : fields_) {
    const void* const member = field.access(const_cast<void*>(value));
    node.keys.push_back(field.key);
    node.key_locations.emplace_back();
    node.items.push_back(field.codec->write(member, expanded.find(field.key)));
  }
  return node;
}

}  // namespace cadre::config
