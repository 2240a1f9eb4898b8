// Files and their includes.
#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "core/config/document.h"
#include "core/config/messages.h"
#include "core/config/yaml_reader.h"
#include "core/error.h"

namespace cadre::config {
namespace {

namespace fs = std::filesystem;

// At most `max_bytes` + 1 bytes, so that a device or an endless pipe is bounded too. Empty optional: errno says why.
bool read_file(const fs::path& path, std::size_t max_bytes, std::string& text) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) return false;
  char block[1 << 16];
  while (text.size() <= max_bytes) {
    const std::size_t count = std::fread(block, 1, sizeof block, file.get());
    if (count == 0) return std::ferror(file.get()) == 0;
    text.append(block, count);
  }
  return true;
}

class Loader {
 public:
  explicit Loader(const Limits& limits) : budget_(limits), files_left_(limits.files) {}

  // `from` is where the include was written, null for the first file.
  Node load(const fs::path& path, const Node* from) {
    const std::string name = one_line(path.string());
    const std::string blame = from == nullptr ? name + ": " : from->location.text() + ": include: ";
    enter(path, name, blame);
    std::string text;
    errno = 0;
    if (!read_file(path, budget_.limits.bytes, text)) {
      const std::string what = from == nullptr ? "it" : name;
      throw ConfigError(fmt::format("{}cannot read {}: {}", blame, what, std::strerror(errno)));
    }
    Node own = read_yaml(std::make_shared<const std::string>(name), text, budget_);
    if (own.kind != Node::Kind::kMapping) {
      throw ConfigError(own.location.text_with_column() + ": a config is a mapping of keys to values");
    }
    Node result = with_includes(path, std::move(own));
    chain_.pop_back();
    return result;
  }

 private:
  struct Link {
    fs::path canonical;
    std::string name;
  };

  void enter(const fs::path& path, const std::string& name, const std::string& blame) {
    std::error_code ignored;
    fs::path canonical = fs::weakly_canonical(path, ignored);
    if (ignored) canonical = path;
    const auto same = [&](const Link& link) { return link.canonical == canonical; };
    if (const auto first = std::find_if(chain_.begin(), chain_.end(), same); first != chain_.end()) {
      std::string circle;
      for (auto link = first; link != chain_.end(); ++link) circle += link->name + " -> ";
      throw ConfigError(blame + "a cycle: " + circle + name);
    }
    if (static_cast<int>(chain_.size()) > budget_.limits.include_depth) {
      throw ConfigError(fmt::format("{}more than {} includes deep", blame, budget_.limits.include_depth));
    }
    if (files_left_-- == 0) throw ConfigError(fmt::format("{}more than {} files", blame, budget_.limits.files));
    chain_.push_back({std::move(canonical), name});
  }

  Node with_includes(const fs::path& path, Node own) {
    const auto place = std::find(own.keys.begin(), own.keys.end(), "include");
    if (place == own.keys.end()) return own;
    const auto index = place - own.keys.begin();
    const Node include = std::move(own.items[static_cast<std::size_t>(index)]);
    own.keys.erase(place);
    own.key_locations.erase(own.key_locations.begin() + index);
    own.items.erase(own.items.begin() + index);
    Node base;
    base.kind = Node::Kind::kMapping;
    if (include.kind == Node::Kind::kSequence) {
      for (const Node& item : include.items) merge(base, load_one(path, item));
    } else {
      base = load_one(path, include);
    }
    merge(base, std::move(own));
    return base;
  }

  Node load_one(const fs::path& path, const Node& include) {
    if (include.kind != Node::Kind::kScalar || include.text.empty()) {
      throw ConfigError(include.location.text() + ": include: wanted a path, or a list of paths");
    }
    return load((path.parent_path() / fs::path(include.text)).lexically_normal(), &include);
  }

  Budget budget_;
  int files_left_;
  std::vector<Link> chain_;
};

}  // namespace

Document parse_document(std::string_view name, std::string_view text, const Limits& limits) {
  Budget budget(limits);
  Node root = read_yaml(std::make_shared<const std::string>(one_line(name)), text, budget);
  if (root.kind != Node::Kind::kMapping) {
    throw ConfigError(root.location.text_with_column() + ": a config is a mapping of keys to values");
  }
  for (std::size_t i = 0; i < root.keys.size(); ++i) {
    if (root.keys[i] != "include") continue;
    throw ConfigError(root.key_locations[i].text() + ": include: this text is not a file, so it cannot include any");
  }
  return {std::move(root)};
}

Document load_document(const fs::path& path, const Limits& limits) { return {Loader(limits).load(path, nullptr)}; }

}  // namespace cadre::config
