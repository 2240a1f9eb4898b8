#pragma once
// The type-erased half of the field lists: how a value of one C++ type is read from a config node, written back and
// described. fields.h makes codecs out of plain structs; nobody else needs this header.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/config/document.h"
#include "core/config/problems.h"

namespace cadre::config {

class StructCodec;

// What a field's numbers (its own, or those in its list, optional or Auto) must obey.
struct Range {
  std::optional<double> min, max;      // inclusive
  std::optional<double> above, below;  // exclusive
  std::optional<std::int64_t> multiple_of;
  bool not_empty = false;  // strings, lists and maps

  std::string text() const;  // ">= 0, < 1", or ""
};

class Codec {
 public:
  virtual ~Codec() = default;
  // Reads `node` into `*value`. Problems are reported against the current scope, and leave `*value` unspecified.
  virtual void read(const Node& node, const Range& range, void* value, Problems& problems) const = 0;
  // Called instead of read when the config does not write the value: its default stands, and is checked.
  virtual void read_default(void* /*value*/, Problems& /*problems*/) const {}
  // The tree that reads back to `*value`. `from` is the node that it was read from (null: a default); its locations are
  // carried over.
  virtual Node write(const void* value, const Node* from) const = 0;
  virtual std::string type_name() const = 0;
  // These three walk a schema: the struct's fields, or the codec of a list's items, a map's values, an optional's
  // value.
  enum class Form { kLeaf, kStruct, kOptional, kList, kMap };
  virtual Form form() const { return Form::kLeaf; }
  virtual const StructCodec* as_struct() const { return nullptr; }
  virtual const Codec* element() const { return nullptr; }
};

using CodecPtr = std::unique_ptr<const Codec>;

// One line of a field list; the builder calls chain.
struct Field {
  std::string key;
  std::string help;
  CodecPtr codec;
  std::function<void*(void*)> access;  // the member within the struct
  Range range;
  bool is_required = false;
  bool is_shorthand = false;

  Field& min(double bound);    // value >= bound
  Field& max(double bound);    // value <= bound
  Field& above(double bound);  // value > bound
  Field& below(double bound);  // value < bound
  Field& multiple_of(std::int64_t step);
  Field& not_empty();
  Field& required();   // the config must write it
  Field& shorthand();  // a scalar or list in place of the whole struct sets this field
};

class StructCodec final : public Codec {
 public:
  struct Operations {
    std::shared_ptr<void> (*make)();                       // a struct with its defaults
    void (*check)(const void* value, Problems& problems);  // null when the schema has no check
  };

  explicit StructCodec(Operations operations) : operations_(operations) {}
  Field& add(Field field);  // throws InternalError on a repeated key
  void about(std::string text) { about_ = std::move(text); }

  void read(const Node& node, const Range& range, void* value, Problems& problems) const override;
  void read_default(void* value, Problems& problems) const override;
  Node write(const void* value, const Node* from) const override;
  std::string type_name() const override;
  Form form() const override { return Form::kStruct; }
  const StructCodec* as_struct() const override { return this; }

  const std::deque<Field>& fields() const { return fields_; }
  const Field* find(std::string_view key) const;
  const Field* shorthand() const;
  const std::string& about() const { return about_; }
  std::shared_ptr<void> make_default() const { return operations_.make(); }
  // `node` itself, or for a short form the mapping that it stands for.
  Node expand(const Node& node) const;

 private:
  void read_fields(const Node* node, void* value, Problems& problems) const;
  void report_unknown(const Node& node, Problems& problems) const;
  std::string find_below(std::string_view key) const;  // "optimizer.lr" for "lr", or ""

  Operations operations_;
  std::deque<Field> fields_;
  std::string about_;
};

struct EnumOperations {
  std::int64_t (*get)(const void*);
  void (*set)(void*, std::int64_t);
};
struct OptionalOperations {
  void (*reset)(void*);
  void* (*engage)(void*);           // keeps a value that is there
  const void* (*get)(const void*);  // null when empty
};
struct ListOperations {
  void (*clear)(void*);
  void* (*append)(void*);
  std::size_t (*size)(const void*);
  const void* (*at)(const void*, std::size_t);
};
struct MapOperations {
  void (*clear)(void*);
  void* (*insert)(void*, const std::string&);
  void (*for_each)(const void*, const std::function<void(const std::string&, const void*)>&);
};

CodecPtr make_bool_codec();
CodecPtr make_int_codec();     // int
CodecPtr make_int64_codec();   // std::int64_t
CodecPtr make_uint64_codec();  // std::uint64_t
CodecPtr make_double_codec();
CodecPtr make_string_codec();
CodecPtr make_enum_codec(std::vector<std::pair<std::int64_t, std::string>> names, EnumOperations operations);
// `word` is what stands for "no value": null (std::optional) or the plain word auto (Auto).
enum class EmptyWord { kNull, kAuto };
CodecPtr make_optional_codec(CodecPtr element, EmptyWord word, OptionalOperations operations);
CodecPtr make_list_codec(CodecPtr element, ListOperations operations);
CodecPtr make_map_codec(CodecPtr element, MapOperations operations);

}  // namespace cadre::config
