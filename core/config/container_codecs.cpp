// std::optional, Auto, std::vector, std::map.
#include <fmt/core.h>

#include <unordered_map>
#include <utility>

#include "core/config/codec.h"
#include "core/config/messages.h"
#include "core/config/writer.h"

namespace cadre::config {
namespace {

class OptionalCodec final : public Codec {
 public:
  OptionalCodec(CodecPtr element, EmptyWord word, OptionalOperations operations)
      : element_(std::move(element)), word_(word), operations_(operations) {}

  void read(const Node& node, const Range& range, void* value, Problems& problems) const override {
    if (is_word(node)) return operations_.reset(value);
    element_->read(node, range, operations_.engage(value), problems);
  }

  void read_default(void* value, Problems& problems) const override {
    if (operations_.get(value) != nullptr) element_->read_default(operations_.engage(value), problems);
  }

  Node write(const void* value, const Node* from) const override {
    if (const void* held = operations_.get(value)) return element_->write(held, from);
    if (word_ == EmptyWord::kAuto) return plain_scalar("auto", from);
    Node node;
    if (from != nullptr) node.location = from->location;
    return node;
  }

  std::string type_name() const override {
    return element_->type_name() + (word_ == EmptyWord::kAuto ? ", or auto" : ", or null");
  }
  Form form() const override { return Form::kOptional; }
  const Codec* element() const override { return element_.get(); }

 private:
  bool is_word(const Node& node) const {
    if (word_ == EmptyWord::kNull) return node.kind == Node::Kind::kNull;
    return node.kind == Node::Kind::kScalar && !node.quoted && node.text == "auto";
  }

  CodecPtr element_;
  EmptyWord word_;
  OptionalOperations operations_;
};

class ListCodec final : public Codec {
 public:
  ListCodec(CodecPtr element, ListOperations operations) : element_(std::move(element)), operations_(operations) {}

  void read(const Node& node, const Range& range, void* value, Problems& problems) const override {
    if (node.kind != Node::Kind::kSequence) {
      problems.add("", fmt::format("got {}, wanted {}", describe(node), type_name()));
      return;
    }
    if (range.not_empty && node.items.empty()) problems.add("", "got an empty list, wanted at least one item");
    operations_.clear(value);
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      const Problems::Scope scope(problems, fmt::format("[{}]", i), &node.items[i]);
      element_->read(node.items[i], range, operations_.append(value), problems);
    }
  }

  Node write(const void* value, const Node* from) const override {
    Node node;
    node.kind = Node::Kind::kSequence;
    if (from != nullptr) node.location = from->location;
    const std::size_t size = operations_.size(value);
    const bool matches = from != nullptr && from->kind == Node::Kind::kSequence && from->items.size() == size;
    for (std::size_t i = 0; i < size; ++i) {
      node.items.push_back(element_->write(operations_.at(value, i), matches ? &from->items[i] : nullptr));
    }
    return node;
  }

  std::string type_name() const override { return "list of: " + element_->type_name(); }
  Form form() const override { return Form::kList; }
  const Codec* element() const override { return element_.get(); }

 private:
  CodecPtr element_;
  ListOperations operations_;
};

class MapCodec final : public Codec {
 public:
  MapCodec(CodecPtr element, MapOperations operations) : element_(std::move(element)), operations_(operations) {}

  void read(const Node& node, const Range& range, void* value, Problems& problems) const override {
    if (node.kind != Node::Kind::kMapping) {
      problems.add("", fmt::format("got {}, wanted {}", describe(node), type_name()));
      return;
    }
    if (range.not_empty && node.items.empty()) problems.add("", "got an empty mapping, wanted at least one key");
    operations_.clear(value);
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      const Problems::Scope scope(problems, node.keys[i], &node.items[i]);
      element_->read(node.items[i], range, operations_.insert(value, node.keys[i]), problems);
    }
  }

  Node write(const void* value, const Node* from) const override {
    Node node;
    node.kind = Node::Kind::kMapping;
    if (from != nullptr) node.location = from->location;
    std::unordered_map<std::string, const Node*> written;
    if (from != nullptr && from->kind == Node::Kind::kMapping) {
      for (std::size_t i = 0; i < from->keys.size(); ++i) written.emplace(from->keys[i], &from->items[i]);
    }
    operations_.for_each(value, [&](const std::string& key, const void* item) {
      const auto place = written.find(key);
      node.keys.push_back(key);
      node.key_locations.emplace_back();
      node.items.push_back(element_->write(item, place == written.end() ? nullptr : place->second));
    });
    return node;
  }

  std::string type_name() const override { return "mapping of names to: " + element_->type_name(); }
  Form form() const override { return Form::kMap; }
  const Codec* element() const override { return element_.get(); }

 private:
  CodecPtr element_;
  MapOperations operations_;
};

}  // namespace

CodecPtr make_optional_codec(CodecPtr element, EmptyWord word, OptionalOperations operations) {
  return std::make_unique<OptionalCodec>(std::move(element), word, operations);
}
CodecPtr make_list_codec(CodecPtr element, ListOperations operations) {
  return std::make_unique<ListCodec>(std::move(element), operations);
}
CodecPtr make_map_codec(CodecPtr element, MapOperations operations) {
  return std::make_unique<MapCodec>(std::move(element), operations);
}

}  // namespace cadre::config
