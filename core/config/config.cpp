#include "core/config/config.h"

#include "core/config/writer.h"

namespace cadre::config::internal {

Document load(const Codec& schema, const std::filesystem::path& path, const std::vector<std::string>& overrides,
              const Limits& limits) {
  Document document = load_document(path, limits);
  for (const std::string& assignment : overrides) apply_override(document, assignment, &schema, limits);
  return document;
}

Document parse_text(const Codec& schema, std::string_view name, std::string_view text,
                    const std::vector<std::string>& overrides, const Limits& limits) {
  Document document = parse_document(name, text, limits);
  for (const std::string& assignment : overrides) apply_override(document, assignment, &schema, limits);
  return document;
}

void parse(const Codec& schema, const Document& document, void* value, std::vector<std::string>* unknown) {
  Problems problems(unknown);
  {
    const Problems::Scope scope(problems, "", &document.root);
    schema.read(document.root, {}, value, problems);
  }
  problems.raise();
}

std::string print(const Codec& schema, const void* value, const Document* provenance) {
  const Node* from = provenance == nullptr ? nullptr : &provenance->root;
  return write_yaml(schema.write(value, from), provenance != nullptr);
}

}  // namespace cadre::config::internal
