#pragma once
// A config as a tree whose every node remembers where it was written.
//
// Stricter than YAML: a mapping's keys are plain words and appear once; no merge keys (`<<`), tags, control characters
// or second document; depth, nodes (aliases expanded), bytes and included files are bounded. Every violation is a
// ConfigError, "FILE:LINE:COLUMN: text". `include:` at the top level (a path or a list of paths, relative to the
// including file) is resolved here: included files come first, in order, and the including file's keys win over them;
// mappings merge key by key, everything else replaces.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cadre::config {

class Codec;

// Where a node was written. `line` and `column` count from 1; a line of 0 means that `source` (such as "--set a.b")
// says all there is; no source means that nobody wrote it (a default).
struct Location {
  std::shared_ptr<const std::string> source;
  int line = 0;
  int column = 0;

  bool known() const { return source != nullptr; }
  std::string text() const;              // "file.yaml:12", "--set a.b", or ""
  std::string text_with_column() const;  // "file.yaml:12:3"
};

struct Node {
  enum class Kind { kNull, kScalar, kSequence, kMapping };

  Kind kind = Kind::kNull;
  bool quoted = false;  // a scalar in quotes or a block scalar: always a string, never a number or a word
  std::string text;     // a scalar's characters
  Location location;
  std::vector<std::string> keys;        // a mapping's keys, in order
  std::vector<Location> key_locations;  // where each key was written
  std::vector<Node> items;              // a sequence's items, or a mapping's values in the order of `keys`

  const Node* find(std::string_view key) const;  // a mapping's value, or null
  Node* find(std::string_view key);
  Node& put(std::string key, Location where, Node value);  // replaces or appends
};

struct Limits {
  std::size_t bytes = std::size_t{4} << 20;            // of one file
  std::size_t expanded_bytes = std::size_t{16} << 20;  // of all scalars and keys, aliases expanded
  std::size_t nodes = 100'000;                         // aliases expanded, all files together
  int depth = 64;
  int include_depth = 16;
  int files = 256;
};

struct Document {
  Node root;  // always a mapping
};

// Reads memory only; `include:` is refused. `name` stands for the file in messages.
Document parse_document(std::string_view name, std::string_view text, const Limits& limits = {});

// Reads `path` and what it includes.
Document load_document(const std::filesystem::path& path, const Limits& limits = {});

// Applies one `--set` argument, "a.b[0].c=VALUE"; VALUE is YAML (a scalar, or a list or mapping in flow style).
// Mappings on the way are created, list items must exist. With a schema, a struct written in its short form on the way
// is expanded first, so that `train: [path]` and "train[0].weight=2" agree.
void apply_override(Document& document, std::string_view assignment, const Codec* schema = nullptr,
                    const Limits& limits = {});

// Deep merge: mappings by key, anything else replaced by `over`.
void merge(Node& base, Node over);

}  // namespace cadre::config
