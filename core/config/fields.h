#pragma once
// One field list per settings struct: it parses, rejects unknown keys, validates, prints and documents.
//
//   // optim/settings.h: a plain struct whose initialisers are the defaults
//   namespace cadre::optim {
//   enum class OptimizerKind { kAdamW, kSgd };
//   struct OptimizerSettings {
//     OptimizerKind kind = OptimizerKind::kAdamW;
//     double lr = 3e-4;
//     std::optional<double> clip_norm = 1.0;  // `clip_norm: null` turns it off
//     config::Auto<int> threads;              // `threads: auto` or a number
//     ScheduleSettings schedule;              // a nested struct with a Schema of its own
//   };
//   }
//   template <>
//   struct cadre::config::EnumNames<cadre::optim::OptimizerKind> {
//     using enum cadre::optim::OptimizerKind;
//     static constexpr EnumName<cadre::optim::OptimizerKind> values[] = {{kAdamW, "adamw"}, {kSgd, "sgd"}};
//   };
//   template <>
//   struct cadre::config::Schema<cadre::optim::OptimizerSettings> {
//     using S = cadre::optim::OptimizerSettings;
//     static void fields(Fields<S>& f) {        // may be only declared here, and defined in a .cpp
//       f.about("How parameters are updated.");                             // the section's first line in the docs
//       f.add("kind", &S::kind, "Update rule").shorthand();                 // `optimizer: sgd` sets kind alone
//       f.add("lr", &S::lr, "Peak learning rate").min(0).max(1);
//       f.add("clip_norm", &S::clip_norm, "Largest global gradient norm").above(0);
//       f.add("threads", &S::threads, "Threads").min(1);
//       f.add("schedule", &S::schedule, "Learning rate over time");
//     }
//     static void check(const S& s, Problems& problems) {                   // optional; runs once the fields are valid
//       if (s.kind == cadre::optim::OptimizerKind::kSgd && s.lr > 0.5) problems.add("lr", "0.7 is too large for sgd;
//       use at most 0.5");
//     }
//   };
//
// Member types: bool, int, std::int64_t, std::uint64_t, double, std::string, enum class, std::optional<T>, Auto<T>,
// std::vector<T>, std::map<std::string, T>, and structs with a Schema, nested freely (no struct may contain itself).
// Numbers take units (64k = 64,000, 64Ki = 65,536, M, Mi, G, Gi) and underscores. A list or map that a config writes
// replaces the default whole; a nested struct keeps the defaults of keys that are not written. Ranges on a list,
// optional or Auto hold for the numbers in it. See config.h for load, parse, print and docs.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/config/codec.h"
#include "core/config/problems.h"

namespace cadre::config {

// Specialise: `static constexpr EnumName<E> values[] = {{E::kOne, "one"}, ...};`
template <class E>
struct EnumNames;
template <class E>
struct EnumName {
  E value;
  std::string_view name;
};

// The name of an enumerator, "" when it is not listed.
template <class E>
constexpr std::string_view enum_name(E value) {
  for (const auto& entry : EnumNames<E>::values) {
    if (entry.value == value) return entry.name;
  }
  return {};
}

// A value, or `auto`: the program chooses.
template <class T>
struct Auto {
  std::optional<T> value;

  Auto() = default;
  Auto(T chosen) : value(std::move(chosen)) {}  // NOLINT: implicit, so that defaults read as values
  bool is_auto() const { return !value.has_value(); }
  T value_or(T chosen) const { return value.value_or(std::move(chosen)); }
  bool operator==(const Auto&) const = default;
};

// Specialise: `static void fields(Fields<S>&)`, and optionally `static void check(const S&, Problems&)`.
template <class S>
struct Schema;

template <class T>
CodecPtr make_codec();

template <class S>
class Fields {
 public:
  explicit Fields(StructCodec& codec) : codec_(codec) {}

  // The struct's one-line description.
  void about(std::string text) { codec_.about(std::move(text)); }

  template <class Member>
  Field& add(std::string key, Member S::*member, std::string help) {
    Field field;
    field.key = std::move(key);
    field.help = std::move(help);
    field.codec = make_codec<Member>();
    field.access = [member](void* owner) -> void* { return &(static_cast<S*>(owner)->*member); };
    return codec_.add(std::move(field));
  }

 private:
  StructCodec& codec_;
};

namespace internal {

template <class S>
std::unique_ptr<StructCodec> make_struct_codec() {
  StructCodec::Operations operations{[]() -> std::shared_ptr<void> { return std::make_shared<S>(); }, nullptr};
  if constexpr (requires(const S& value, Problems& problems) { Schema<S>::check(value, problems); }) {
    operations.check = [](const void* value, Problems& problems) {
      Schema<S>::check(*static_cast<const S*>(value), problems);
    };
  }
  auto codec = std::make_unique<StructCodec>(operations);
  Fields<S> fields(*codec);
  Schema<S>::fields(fields);
  return codec;
}

template <class T>
struct CodecOf {  // enums and structs
  static CodecPtr make() {
    if constexpr (std::is_enum_v<T>) {
      std::vector<std::pair<std::int64_t, std::string>> names;
      for (const auto& entry : EnumNames<T>::values) {
        names.emplace_back(static_cast<std::int64_t>(entry.value), std::string(entry.name));
      }
      return make_enum_codec(
          std::move(names),
          {[](const void* value) { return static_cast<std::int64_t>(*static_cast<const T*>(value)); },
           [](void* value, std::int64_t number) { *static_cast<T*>(value) = static_cast<T>(number); }});
    } else {
      static_assert(std::is_class_v<T>, "no config codec for this member type");
      return make_struct_codec<T>();
    }
  }
};

template <>
struct CodecOf<bool> {
  static CodecPtr make() { return make_bool_codec(); }
};
template <>
struct CodecOf<int> {
  static CodecPtr make() { return make_int_codec(); }
};
template <>
struct CodecOf<std::int64_t> {
  static CodecPtr make() { return make_int64_codec(); }
};
template <>
struct CodecOf<std::uint64_t> {
  static CodecPtr make() { return make_uint64_codec(); }
};
template <>
struct CodecOf<double> {
  static CodecPtr make() { return make_double_codec(); }
};
template <>
struct CodecOf<std::string> {
  static CodecPtr make() { return make_string_codec(); }
};

template <class T>
struct CodecOf<std::optional<T>> {
  using Holder = std::optional<T>;
  static CodecPtr make() {
    return make_optional_codec(make_codec<T>(), EmptyWord::kNull,
                               {[](void* value) { static_cast<Holder*>(value)->reset(); },
                                [](void* value) -> void* {
                                  auto& holder = *static_cast<Holder*>(value);
                                  return holder ? &*holder : &holder.emplace();
                                },
                                [](const void* value) -> const void* {
                                  const auto& holder = *static_cast<const Holder*>(value);
                                  return holder ? &*holder : nullptr;
                                }});
  }
};

template <class T>
struct CodecOf<Auto<T>> {
  using Holder = Auto<T>;
  static CodecPtr make() {
    return make_optional_codec(make_codec<T>(), EmptyWord::kAuto,
                               {[](void* value) { static_cast<Holder*>(value)->value.reset(); },
                                [](void* value) -> void* {
                                  auto& holder = static_cast<Holder*>(value)->value;
                                  return holder ? &*holder : &holder.emplace();
                                },
                                [](const void* value) -> const void* {
                                  const auto& holder = static_cast<const Holder*>(value)->value;
                                  return holder ? &*holder : nullptr;
                                }});
  }
};

template <class T>
struct CodecOf<std::vector<T>> {
  static_assert(!std::is_same_v<T, bool>, "std::vector<bool> has no addressable items");
  using List = std::vector<T>;
  static CodecPtr make() {
    return make_list_codec(
        make_codec<T>(),
        {[](void* value) { static_cast<List*>(value)->clear(); },
         [](void* value) -> void* { return &static_cast<List*>(value)->emplace_back(); },
         [](const void* value) { return static_cast<const List*>(value)->size(); },
         [](const void* value, std::size_t i) -> const void* { return &(*static_cast<const List*>(value))[i]; }});
  }
};

template <class T>
struct CodecOf<std::map<std::string, T>> {
  using Map = std::map<std::string, T>;
  static CodecPtr make() {
    return make_map_codec(
        make_codec<T>(),
        {[](void* value) { static_cast<Map*>(value)->clear(); },
         [](void* value, const std::string& key) -> void* { return &(*static_cast<Map*>(value))[key]; },
         [](const void* value, const std::function<void(const std::string&, const void*)>& visit) {
           for (const auto& [key, item] : *static_cast<const Map*>(value)) visit(key, &item);
         }});
  }
};

}  // namespace internal

template <class T>
CodecPtr make_codec() {
  return internal::CodecOf<T>::make();
}

}  // namespace cadre::config
