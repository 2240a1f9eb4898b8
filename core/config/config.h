#pragma once
// From a config file to a settings struct and back.
//
//   auto document = config::load<Settings>("run.yaml", {"optimizer.lr=1e-3"});   // includes and --set applied
//   auto settings = config::parse<Settings>(document);                          // or ConfigError with every problem
//   config::print_resolved(settings, &document);                                // with "# run.yaml:12" on every line
//
// All errors are ConfigError; each of its lines reads `FILE:LINE: KEY: what is wrong`.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/document.h"
#include "core/config/fields.h"

namespace cadre::config {

namespace internal {
Document load(const Codec& schema, const std::filesystem::path& path, const std::vector<std::string>& overrides,
              const Limits& limits);
Document parse_text(const Codec& schema, std::string_view name, std::string_view text,
                    const std::vector<std::string>& overrides, const Limits& limits);
void parse(const Codec& schema, const Document& document, void* value, std::vector<std::string>* unknown);
std::string print(const Codec& schema, const void* value, const Document* provenance);
std::string docs(const StructCodec& schema, std::string_view title);
}  // namespace internal

template <class S>
Document load(const std::filesystem::path& path, const std::vector<std::string>& overrides = {},
              const Limits& limits = {}) {
  return internal::load(*make_codec<S>(), path, overrides, limits);
}

// With `unknown`, keys that S lacks are no errors: their full names are appended there. For configs that another
// version of the program wrote; what a person writes is read without.
template <class S>
S parse(const Document& document, std::vector<std::string>* unknown = nullptr) {
  S value{};
  internal::parse(*make_codec<S>(), document, &value, unknown);
  return value;
}

// Memory only: opens no file, refuses `include:`. Whatever the text, returns or throws ConfigError, in bounded time.
template <class S>
S parse_text(std::string_view name, std::string_view text, const std::vector<std::string>& overrides = {},
             const Limits& limits = {}) {
  return parse<S>(internal::parse_text(*make_codec<S>(), name, text, overrides, limits));
}

// YAML of every field. Without provenance it parses back to the identical struct, doubles exactly; with it, each line
// ends in the place that set the value, or "# default". Throws InternalError on a number that is not finite.
template <class S>
std::string print_resolved(const S& value, const Document* provenance = nullptr) {
  return internal::print(*make_codec<S>(), &value, provenance);
}

// Markdown: a table (key, type, default, range, meaning) and a section for each nested struct.
template <class S>
std::string docs(std::string_view title) {
  const CodecPtr codec = make_codec<S>();
  return internal::docs(*codec->as_struct(), title);
}

}  // namespace cadre::config
