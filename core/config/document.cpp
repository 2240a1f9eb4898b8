#include "core/config/document.h"

#include <unordered_map>
#include <utility>

namespace cadre::config {

std::string Location::text() const {
  if (!known()) return {};
  return line == 0 ? *source : *source + ":" + std::to_string(line);
}

std::string Location::text_with_column() const { return line == 0 ? text() : text() + ":" + std::to_string(column); }

const Node* Node::find(std::string_view key) const {
  if (kind != Kind::kMapping) return nullptr;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) return &items[i];
  }
  return nullptr;
}

Node* Node::find(std::string_view key) { return const_cast<Node*>(std::as_const(*this).find(key)); }

Node& Node::put(std::string key, Location where, Node value) {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] != key) continue;
    key_locations[i] = std::move(where);
    return items[i] = std::move(value);
  }
  keys.push_back(std::move(key));
  key_locations.push_back(std::move(where));
  return items.emplace_back(std::move(value));
}

void merge(Node& base, Node over) {
  if (base.kind != Node::Kind::kMapping || over.kind != Node::Kind::kMapping) {
    base = std::move(over);
    return;
  }
  base.location = over.location;
  std::unordered_map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < base.keys.size(); ++i) places.emplace(base.keys[i], i);
  for (std::size_t i = 0; i < over.keys.size(); ++i) {
    const auto place = places.find(over.keys[i]);
    if (place == places.end()) {
      base.keys.push_back(std::move(over.keys[i]));
      base.key_locations.push_back(std::move(over.key_locations[i]));
      base.items.push_back(std::move(over.items[i]));
    } else {
      base.key_locations[place->second] = std::move(over.key_locations[i]);
      merge(base.items[place->second], std::move(over.items[i]));
    }
  }
}

}  // namespace cadre::config
