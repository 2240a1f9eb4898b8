// bool, integers, double, string, enum.
#include <fmt/core.h>

#include <cctype>
#include <cmath>
#include <limits>
#include <utility>

#include "core/config/codec.h"
#include "core/config/messages.h"
#include "core/config/number.h"
#include "core/config/writer.h"
#include "core/error.h"

namespace cadre::config {

namespace {

// Bounds hold as written: integers beyond 2^53 compare exactly in long double (64-bit mantissa on x86-64).
template <class T>
bool in_range(T value, const Range& range) {
  const auto number = static_cast<long double>(value);
  if (range.min && !(number >= *range.min)) return false;
  if (range.max && !(number <= *range.max)) return false;
  if (range.above && !(number > *range.above)) return false;
  if (range.below && !(number < *range.below)) return false;
  if (range.multiple_of) return std::fmod(number, static_cast<long double>(*range.multiple_of)) == 0;
  return true;
}

template <class T>
using Parser = Parsed<T> (*)(std::string_view);

Parsed<int> parse_int(std::string_view text) {
  Parsed<std::int64_t> wide = parse_int64(text);
  if (!wide.fault.empty()) return {0, std::move(wide.fault)};
  if (wide.value < std::numeric_limits<int>::min() || wide.value > std::numeric_limits<int>::max()) {
    return {0, fmt::format("got {}, too large for a 32-bit integer", in_quotes(text))};
  }
  return {static_cast<int>(wide.value), {}};
}

template <class T>
std::string print_number(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) throw InternalError("a setting is not a finite number, which no config can say");
    return print_double(value);
  } else {
    return std::to_string(value);
  }
}

template <class T>
class NumberCodec final : public Codec {
 public:
  NumberCodec(Parser<T> parser, std::string type) : parser_(parser), type_(std::move(type)) {}

  void read(const Node& node, const Range& range, void* value, Problems& problems) const override {
    if (node.kind != Node::Kind::kScalar || node.quoted) {
      problems.add("", fmt::format("got {}, wanted {}", describe(node), type_name()));
      return;
    }
    Parsed<T> parsed = parser_(node.text);
    if (!parsed.fault.empty()) {
      problems.add("", parsed.fault);
    } else if (!in_range(parsed.value, range)) {
      problems.add("", fmt::format("got {}, wanted {}", node.text, range.text()));
    } else {
      *static_cast<T*>(value) = parsed.value;
    }
  }

  Node write(const void* value, const Node* from) const override {
    return plain_scalar(print_number(*static_cast<const T*>(value)), from);
  }

  std::string type_name() const override { return type_; }

 private:
  Parser<T> parser_;
  std::string type_;
};

class BoolCodec final : public Codec {
 public:
  void read(const Node& node, const Range&, void* value, Problems& problems) const override {
    const bool plain = node.kind == Node::Kind::kScalar && !node.quoted;
    if (plain && (node.text == "true" || node.text == "false")) {
      *static_cast<bool*>(value) = node.text == "true";
    } else {
      problems.add("", fmt::format("got {}, wanted true or false", describe(node)));
    }
  }
  Node write(const void* value, const Node* from) const override {
    return plain_scalar(*static_cast<const bool*>(value) ? "true" : "false", from);
  }
  std::string type_name() const override { return "true or false"; }
};

class StringCodec final : public Codec {
 public:
  void read(const Node& node, const Range& range, void* value, Problems& problems) const override {
    if (node.kind != Node::Kind::kScalar) {
      problems.add("", fmt::format("got {}, wanted a string", describe(node)));
    } else if (range.not_empty && node.text.empty()) {
      problems.add("", "got an empty string, wanted one that is not empty");
    } else {
      *static_cast<std::string*>(value) = node.text;
    }
  }
  Node write(const void* value, const Node* from) const override {
    return string_scalar(*static_cast<const std::string*>(value), from);
  }
  std::string type_name() const override { return "string"; }
};

class EnumCodec final : public Codec {
 public:
  EnumCodec(std::vector<std::pair<std::int64_t, std::string>> names, EnumOperations operations)
      : names_(std::move(names)), operations_(operations) {}

  void read(const Node& node, const Range&, void* value, Problems& problems) const override {
    if (node.kind != Node::Kind::kScalar) {
      problems.add("", fmt::format("got {}, wanted {}", describe(node), type_name()));
      return;
    }
    std::vector<std::string> candidates;
    for (const auto& [number, name] : names_) {
      if (name == node.text) return operations_.set(value, number);
      candidates.push_back(name);
    }
    problems.add("",
                 fmt::format("got {}, wanted {}{}", in_quotes(node.text), type_name(), near(node.text, candidates)));
  }

  Node write(const void* value, const Node* from) const override {
    const std::int64_t number = operations_.get(value);
    for (const auto& [listed, name] : names_) {
      if (listed != number) continue;
      const bool digit_first = std::isdigit(static_cast<unsigned char>(name[0])) != 0;  // 1f1b needs no quotes
      return digit_first ? plain_scalar(name, from) : string_scalar(name, from);
    }
    throw InternalError(fmt::format("enumerator {} has no name among {}", number, type_name()));
  }

  std::string type_name() const override {
    std::string list;
    for (const auto& entry : names_) list += (list.empty() ? "" : ", ") + entry.second;
    return names_.size() == 1 ? list : "one of " + list;
  }

 private:
  static std::string near(std::string_view got, const std::vector<std::string>& candidates) {
    std::string text = suggestion(got, candidates);
    return text.starts_with("; did") ? text : "";  // type_name already lists them
  }

  std::vector<std::pair<std::int64_t, std::string>> names_;
  EnumOperations operations_;
};

}  // namespace

CodecPtr make_bool_codec() { return std::make_unique<BoolCodec>(); }
CodecPtr make_int_codec() { return std::make_unique<NumberCodec<int>>(&parse_int, "integer"); }
CodecPtr make_int64_codec() { return std::make_unique<NumberCodec<std::int64_t>>(&parse_int64, "integer"); }
CodecPtr make_uint64_codec() { return std::make_unique<NumberCodec<std::uint64_t>>(&parse_uint64, "integer"); }
CodecPtr make_double_codec() { return std::make_unique<NumberCodec<double>>(&parse_double, "number"); }
CodecPtr make_string_codec() { return std::make_unique<StringCodec>(); }
CodecPtr make_enum_codec(std::vector<std::pair<std::int64_t, std::string>> names, EnumOperations operations) {
  return std::make_unique<EnumCodec>(std::move(names), operations);
}

}  // namespace cadre::config
