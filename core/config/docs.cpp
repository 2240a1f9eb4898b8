// Markdown from a field list.
#include <fmt/core.h>

#include <string>
#include <utility>

#include "core/config/codec.h"
#include "core/config/config.h"
#include "core/config/writer.h"

namespace cadre::config {
namespace {

// `|` would end a table cell, a newline the row.
std::string cell(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result;
}

// The struct inside optionals, lists and maps, and how its keys are reached: "train" -> "train[]", "experts" ->
// "experts.*".
std::pair<const StructCodec*, std::string> inner_struct(const Codec* codec, std::string key) {
  while (codec != nullptr && codec->as_struct() == nullptr) {
    if (codec->form() == Codec::Form::kList) key += "[]";
    if (codec->form() == Codec::Form::kMap) key += ".*";
    codec = codec->element();
  }
  return {codec == nullptr ? nullptr : codec->as_struct(), std::move(key)};
}

std::string default_text(const Field& field, void* owner) {
  if (field.is_required) return "required";
  const Node node = field.codec->write(field.access(owner), nullptr);
  if (field.codec->as_struct() != nullptr) return "below";
  const std::string text = write_flow(node);
  return "`" + text + "`";
}

void section(const StructCodec& schema, const std::string& path, const std::string& title, std::string& out) {
  out += fmt::format("## {}\n\n", title);
  if (!schema.about().empty()) out += schema.about() + "\n\n";
  if (const Field* field = schema.shorthand()) {
    out += fmt::format("Short form: a value in place of the mapping sets `{}`.\n\n", field->key);
  }
  out += "| key | type | default | range | meaning |\n|---|---|---|---|---|\n";
  const std::shared_ptr<void> owner = schema.make_default();
  for (const Field& field : schema.fields()) {
    out += fmt::format("| `{}` | {} | {} | {} | {} |\n", join_key(path, field.key), cell(field.codec->type_name()),
                       cell(default_text(field, owner.get())), cell(field.range.text()), cell(field.help));
  }
  out += "\n";
  for (const Field& field : schema.fields()) {
    const auto [inner, key] = inner_struct(field.codec.get(), field.key);
    if (inner == nullptr) continue;
    const std::string below = join_key(path, key);
    section(*inner, below, "`" + below + "`", out);
  }
}

}  // namespace

namespace internal {

std::string docs(const StructCodec& schema, std::string_view title) {
  std::string out;
  section(schema, "", std::string(title), out);
  out.pop_back();  // one newline at the end
  return out;
}

}  // namespace internal
}  // namespace cadre::config
