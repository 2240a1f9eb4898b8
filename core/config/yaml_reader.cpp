#include "core/config/yaml_reader.h"

#include <fmt/core.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <new>
#include <sstream>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/config/messages.h"
#include "core/config/text_check.h"
#include "core/error.h"

namespace cadre::config {
namespace {

constexpr std::size_t kMaxKeyBytes = 256;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

struct Extent {
  std::size_t nodes = 1;
  std::size_t bytes = 0;
  int depth = 1;
};

Extent measure(const Node& node) {
  Extent extent;
  extent.bytes = node.text.size();
  for (const std::string& key : node.keys) extent.bytes += key.size();
  for (const Node& item : node.items) {
    const Extent inner = measure(item);
    extent.nodes += inner.nodes;
    extent.bytes += inner.bytes;
    extent.depth = std::max(extent.depth, inner.depth + 1);
  }
  return extent;
}

class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::shared_ptr<const std::string> source, std::string_view text, Budget& budget, bool single_line)
      : source_(std::move(source)), text_(text), budget_(budget), single_line_(single_line) {}

  Location locate(const YAML::Mark& mark) const {
    return single_line_ ? Location{source_, 0, 0} : Location{source_, mark.line + 1, mark.column + 1};
  }

  [[noreturn]] void fail(const Location& where, const std::string& text) const {
    throw ConfigError(where.text_with_column() + ": " + text);
  }

  bool has_root() const { return has_root_; }
  Node take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (has_root_) fail(locate(mark), "a second document; a config is one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (expects_key()) fail(locate(mark), "an empty key, or a null; keys are words");
    Node node;
    node.location = locate(mark);
    spend({}, node.location);
    finish(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const Location where = locate(mark);
    if (expects_key()) fail(where, "an alias as a key; keys are words");
    const auto entry = anchors_.find(anchor);
    if (entry == anchors_.end()) fail(where, "an alias of something that contains it");
    const Extent extent = measure(entry->second);
    spend(extent, where);
    check_depth(extent.depth, where);
    finish(Node(entry->second), 0);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const Location where = locate(mark);
    refuse_tag(tag, where);
    if (expects_key()) {
      if (anchor != 0) fail(where, "an anchor on a key");
      if (!has_colon(text_, static_cast<std::size_t>(mark.pos), frames_.back().in_flow))
        fail(where, in_quotes(value) + " has no \":\" after it");
      take_key(value, where);
      return;
    }
    Node node;
    node.kind = Node::Kind::kScalar;
    node.text = value;
    node.quoted = tag == "!";
    node.location = where;
    spend({1, value.size(), 1}, where);
    finish(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    open(mark, tag, anchor, Node::Kind::kSequence, style);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    open(mark, tag, anchor, Node::Kind::kMapping, style);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Node node;
    YAML::anchor_t anchor = 0;
    bool in_flow = false;
    bool has_key = false;                        // a mapping's next event is a value
    std::unordered_map<std::string, int> lines;  // of a mapping's keys
  };

  bool expects_key() const {
    return !frames_.empty() && frames_.back().node.kind == Node::Kind::kMapping && !frames_.back().has_key;
  }

  void refuse_tag(const std::string& tag, const Location& where) const {
    if (!tag.empty() && tag != "?" && tag != "!") fail(where, "tag " + in_quotes(tag) + "; a config has no tags");
  }

  void check_depth(int extra, const Location& where) const {
    if (static_cast<int>(frames_.size()) + extra > budget_.limits.depth) {
      fail(where, fmt::format("nested more than {} levels deep", budget_.limits.depth));
    }
  }

  void spend(const Extent& extent, const Location& where) {
    if (extent.nodes > budget_.nodes) {
      fail(where, fmt::format("more than {} values, aliases expanded", budget_.limits.nodes));
    }
    if (extent.bytes > budget_.bytes) {
      fail(where, fmt::format("more than {} bytes of text, aliases expanded", budget_.limits.expanded_bytes));
    }
    budget_.nodes -= extent.nodes;
    budget_.bytes -= extent.bytes;
  }

  void take_key(const std::string& key, const Location& where) {
    Frame& frame = frames_.back();
    if (key == "<<") fail(where, "merge key \"<<\" is not supported; use include: or repeat the keys");
    if (key.empty() || key.size() > kMaxKeyBytes || one_line(key) != key) {
      fail(where, "key " + in_quotes(key) + "; keys are words of 1 to 256 bytes without control characters");
    }
    spend({0, key.size(), 1}, where);
    const auto [entry, fresh] = frame.lines.emplace(key, where.line);
    if (!fresh) {
      const std::string first = single_line_ ? "" : fmt::format("; it was first set on line {}", entry->second);
      throw ConfigError(fmt::format("{}: {}: duplicate key{}", where.text(), path_to(key), first));
    }
    frame.node.keys.push_back(key);
    frame.node.key_locations.push_back(where);
    frame.has_key = true;
  }

  std::string path_to(const std::string& key) const {
    std::string path;
    for (std::size_t i = 0; i + 1 < frames_.size(); ++i) {
      const Node& node = frames_[i].node;
      if (node.kind == Node::Kind::kMapping) {
        path += (path.empty() ? "" : ".") + node.keys.back();
      } else {
        path += fmt::format("[{}]", node.items.size());
      }
    }
    return path.empty() ? key : path + "." + key;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node::Kind kind,
            YAML::EmitterStyle::value style) {
    const Location where = locate(mark);
    refuse_tag(tag, where);
    if (expects_key()) fail(where, "a list or mapping as a key; keys are words");
    check_depth(1, where);
    spend({}, where);
    Frame frame;
    frame.node.kind = kind;
    frame.node.location = where;
    frame.anchor = anchor;
    frame.in_flow = style == YAML::EmitterStyle::Flow;
    frames_.push_back(std::move(frame));
  }

  void close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    finish(std::move(frame.node), frame.anchor);
  }

  void finish(Node node, YAML::anchor_t anchor) {
    if (anchor != 0) {
      spend(measure(node), node.location);  // the anchor keeps a copy
      anchors_[anchor] = node;
    }
    if (frames_.empty()) {
      root_ = std::move(node);
      has_root_ = true;
      return;
    }
    Frame& parent = frames_.back();
    if (parent.node.kind == Node::Kind::kMapping) {
      if (node.kind != Node::Kind::kScalar) node.location = parent.node.key_locations.back();
      parent.has_key = false;
    }
    parent.node.items.push_back(std::move(node));
  }

  std::shared_ptr<const std::string> source_;
  std::string_view text_;  // without byte order mark, as positions count
  Budget& budget_;
  bool single_line_;
  std::vector<Frame> frames_;
  std::map<YAML::anchor_t, Node> anchors_;
  Node root_;
  bool has_root_ = false;
};

}  // namespace

Node read_yaml(std::shared_ptr<const std::string> source, std::string_view text, Budget& budget, bool single_line) {
  const auto fail = [&](int line, int column, const std::string& message) {
    const Location where{source, single_line ? 0 : line, single_line ? 0 : column};
    throw ConfigError(where.text_with_column() + ": " + message);
  };
  const TextFault fault = check_text(text, budget.limits.bytes, budget.limits.nodes);
  if (!fault.text.empty()) fail(fault.line, fault.column, fault.text);
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  TreeBuilder builder(source, text, budget, single_line);
  try {
    std::istringstream stream{single_line ? std::string(text) : closed_text(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    fail(error.mark.line + 1, error.mark.column + 1,
         one_line(error.msg) + syntax_hint(text, error.mark.line + 1, error.msg));
  } catch (const std::bad_alloc&) {
    fail(1, 1, "not enough memory to read it");
  } catch (const std::length_error&) {
    fail(1, 1, "not enough memory to read it");
  }
  if (!builder.has_root()) throw ConfigError(*source + ": empty");
  return builder.take_root();
}

}  // namespace cadre::config
