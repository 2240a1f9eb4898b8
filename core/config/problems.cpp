#include "core/config/problems.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/error.h"

namespace cadre::config {
namespace {

// The nearest written place on the way from `node` down to `key`.
Location locate(const Node* node, Location nearest, std::string_view key) {
  while (node != nullptr && !key.empty()) {
    if (key.front() == '.') key.remove_prefix(1);
    const std::size_t end = std::min(key.find_first_of(".[", 1), key.size());
    const std::string_view step = key.substr(0, end);
    key.remove_prefix(end);
    if (step.starts_with('[')) {
      std::size_t index = 0;
      std::from_chars(step.data() + 1, step.data() + step.size(), index);
      node = node->kind == Node::Kind::kSequence && index < node->items.size() ? &node->items[index] : nullptr;
    } else {
      node = node->find(step);
    }
    if (node != nullptr && node->location.known()) nearest = node->location;
  }
  return nearest;
}

// Damerau-Levenshtein distance (optimal string alignment): insert, delete, replace, swap neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = previous[j - 1] + (a[i - 1] != b[j - 1]);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

}  // namespace

Problems::Scope::Scope(Problems& problems, std::string_view key, const Node* node) : problems_(problems) {
  auto& frames = problems.frames_;
  Location location = node != nullptr && node->location.known() ? node->location
                      : frames.empty()                          ? Location{}
                                                                : frames.back().location;
  const std::string full = frames.empty() ? std::string(key) : join_key(frames.back().key, key);
  frames.push_back({full, node, std::move(location)});
}

Problems::Scope::~Scope() { problems_.frames_.pop_back(); }

void Problems::add(std::string_view key, std::string_view text) {
  if (frames_.empty()) return add_at({}, key, text);
  add_at(locate(frames_.back().node, frames_.back().location, key), key, text);
}

void Problems::add_at(const Location& where, std::string_view key, std::string_view text) {
  if (++count_ > kMaxLines) return;
  const std::string full = full_name(key);
  std::string line = where.text();
  if (line.empty()) {
    line = full;
  } else if (!full.empty() && line != "--set " + full) {
    line += ": " + full;
  }
  lines_.push_back(line.empty() ? std::string(text) : line + ": " + std::string(text));
}

bool Problems::list_unknown(std::string_view key) {
  if (unknown_keys_ == nullptr) return false;
  unknown_keys_->push_back(full_name(key));
  return true;
}

std::string Problems::full_name(std::string_view key) const {
  return frames_.empty() ? std::string(key) : join_key(frames_.back().key, key);
}

std::string Problems::text() const {
  std::string result;
  for (const std::string& line : lines_) result += (result.empty() ? "" : "\n") + line;
  if (count_ > kMaxLines) result += fmt::format("\nand {} more problems", count_ - kMaxLines);
  return result;
}

void Problems::raise() const {
  if (!empty()) throw ConfigError(text());
}

std::string join_key(std::string_view prefix, std::string_view key) {
  if (prefix.empty() || key.empty()) return std::string(prefix) + std::string(key);
  return std::string(prefix) + (key.starts_with('[') ? "" : ".") + std::string(key);
}

std::string suggestion(std::string_view got, const std::vector<std::string>& candidates) {
  constexpr std::size_t kLongest = 64;
  constexpr std::size_t kListed = 12;
  const std::string* best = nullptr;
  std::size_t best_distance = std::max<std::size_t>(1, std::min<std::size_t>(3, got.size() / 3)) + 1;
  for (const std::string& candidate : candidates) {
    if (got.size() > kLongest || candidate.size() > kLongest) continue;
    const std::size_t distance = edit_distance(got, candidate);
    if (distance >= best_distance || distance >= candidate.size()) continue;
    best = &candidate;
    best_distance = distance;
  }
  if (best != nullptr) return fmt::format("; did you mean \"{}\"?", *best);
  if (candidates.empty() || candidates.size() > kListed) return {};
  std::string list;
  for (const std::string& candidate : candidates) list += (list.empty() ? "" : ", ") + candidate;
  return "; valid: " + list;
}

}  // namespace cadre::config
