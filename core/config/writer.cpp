#include "core/config/writer.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

namespace cadre::config {
namespace {

constexpr std::size_t kCommentColumn = 48;
constexpr std::size_t kFlowWidth = 100;

bool is_plain(std::string_view text) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  constexpr std::string_view kWords[] = {"null", "Null", "NULL", "true", "false", "auto"};
  if (text.empty() || text.find_first_not_of(std::string(kLetters) + "0123456789_./+-") != text.npos) return false;
  const bool starts = kLetters.find(text[0]) != kLetters.npos || text[0] == '_' || text[0] == '/' ||
                      (text[0] == '.' && text.find('/') != text.npos);
  return starts && text.substr(0, 3) != "..." &&
         std::find(std::begin(kWords), std::end(kWords), text) == std::end(kWords);
}

// Invisible or line-breaking characters beyond ASCII: C1 controls, line and paragraph separators, byte order mark,
// noncharacters. Valid UTF-8 at `text` of that kind gives its length and code point.
std::size_t unprintable(std::string_view text, unsigned& code) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<std::uint8_t>(text[i]) : 0u; };
  if (at(0) == 0xC2 && at(1) >= 0x80 && at(1) < 0xA0) {
    code = at(1);
    return 2;
  }
  code = ((at(0) & 0x0Fu) << 12) | ((at(1) & 0x3Fu) << 6) | (at(2) & 0x3Fu);
  const bool three = (at(0) & 0xF0u) == 0xE0u && text.size() >= 3;
  return three && (code == 0x2028 || code == 0x2029 || code == 0xFEFF || code >= 0xFFFE) ? 3 : 0;
}

std::string quote(std::string_view text) {
  std::string result = "\"";
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<std::uint8_t>(text[i]);
    unsigned code = 0;
    if (const std::size_t length = unprintable(text.substr(i), code); length > 0) {
      result += fmt::format("\\u{:04x}", code);
      i += length;
      continue;
    }
    ++i;
    if (byte == '"' || byte == '\\') {
      result += '\\';
      result += static_cast<char>(byte);
    } else if (byte == '\n') {
      result += "\\n";
    } else if (byte < 0x20 || byte == 0x7F) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += static_cast<char>(byte);
    }
  }
  return result + '"';
}

std::string key_text(const std::string& key) { return is_plain(key) ? key : quote(key); }

bool is_flat(const Node& node) {
  if (node.items.empty()) return true;
  return node.kind == Node::Kind::kSequence && std::all_of(node.items.begin(), node.items.end(), [](const Node& item) {
           return item.items.empty() || (item.kind == Node::Kind::kSequence && is_flat(item));
         });
}

class Writer {
 public:
  explicit Writer(bool provenance) : provenance_(provenance) {}

  // `start` is what the line holds already ("key:", "-", or indentation of a list item).
  void value(std::string start, const Node& node, std::size_t indent) {
    if (is_flat(node)) {
      const std::string flow = write_flow(node);
      if (start.size() + flow.size() < kFlowWidth || node.items.empty()) return line(start + " " + flow, node);
    }
    line(std::move(start), node, false);
    block(node, indent);
  }

  void block(const Node& node, std::size_t indent) {
    const std::string pad(indent, ' ');
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      const Node& item = node.items[i];
      if (node.kind == Node::Kind::kMapping) {
        value(pad + key_text(node.keys[i]) + ":", item, indent + 2);
      } else if (item.kind == Node::Kind::kMapping && !item.items.empty()) {
        const std::size_t first = text_.size();
        block(item, indent + 2);
        text_[first + indent] = '-';  // the item's first line: "  key:" becomes "- key:"
      } else {
        value(pad + "-", item, indent + 2);
      }
    }
  }

  std::string take() { return std::move(text_); }

 private:
  void line(std::string content, const Node& node, bool comment = true) {
    if (provenance_ && comment) {
      content.resize(std::max(content.size() + 2, kCommentColumn), ' ');
      content += "# " + (node.location.known() ? node.location.text() : "default");
    }
    text_ += content + "\n";
  }

  bool provenance_;
  std::string text_;
};

}  // namespace

std::string write_yaml(const Node& root, bool provenance) {
  if (root.items.empty()) return write_flow(root) + "\n";
  Writer writer(provenance);
  writer.block(root, 0);
  return writer.take();
}

std::string write_flow(const Node& node) {
  if (node.kind == Node::Kind::kNull) return "null";
  if (node.kind == Node::Kind::kScalar) return node.quoted ? quote(node.text) : node.text;
  const bool mapping = node.kind == Node::Kind::kMapping;
  std::string result = mapping ? "{" : "[";
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    if (i > 0) result += ", ";
    if (mapping) result += key_text(node.keys[i]) + ": ";
    result += write_flow(node.items[i]);
  }
  return result + (mapping ? "}" : "]");
}

Node plain_scalar(std::string text, const Node* from) {
  Node node;
  node.kind = Node::Kind::kScalar;
  node.text = std::move(text);
  if (from != nullptr) node.location = from->location;
  return node;
}

Node string_scalar(std::string text, const Node* from) {
  Node node = plain_scalar(std::move(text), from);
  node.quoted = !is_plain(node.text);
  return node;
}

}  // namespace cadre::config
