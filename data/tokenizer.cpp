#include "data/tokenizer.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/files.h"
#include "data/tokenizers/bytes.h"
#include "data/tokenizers/sentencepiece.h"

namespace cadre::data {
namespace {

std::unique_ptr<Tokenizer> parse_bytes(std::string_view serialized, std::string_view name,
                                       std::optional<bool> append_eod) {
  const auto json = nlohmann::json::parse(serialized, nullptr, false);
  if (!json.is_object() || json.value("tokenizer", nlohmann::json()) != "bytes") {
    throw DataError(
        fmt::format("{}: not a tokenizer; wanted a SentencePiece model or "
                    "{{\"tokenizer\": \"bytes\", \"append_eod\": true|false}}",
                    name));
  }
  const auto eod = json.value("append_eod", nlohmann::json(false));
  if (!eod.is_boolean()) throw DataError(fmt::format("{}: append_eod: got {}; wanted true or false", name, eod.dump()));
  return std::make_unique<ByteTokenizer>(append_eod.value_or(eod.get<bool>()));
}

}  // namespace

std::vector<int32_t> Tokenizer::encode(std::string_view text) {
  std::vector<int32_t> ids;
  encode(text, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += token_text(id);
  return text;
}

std::string Tokenizer::fingerprint() const {
  const std::string bytes = serialize() + (end_of_document() ? "eod" : "");
  return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
}

std::unique_ptr<Tokenizer> parse_tokenizer(std::string_view serialized, std::string_view name,
                                           std::optional<bool> append_eod) {
  if (serialized.starts_with('{')) return parse_bytes(serialized, name, append_eod);
  return SentencePieceTokenizer::parse(serialized, name, append_eod);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path, std::optional<bool> append_eod) {
  return parse_tokenizer(read_text_file(path), path.string(), append_eod);
}

void save_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& path) {
  write_text_file(path, tokenizer.serialize());
}

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerSettings& settings) {
  const auto name = [](TokenizerKind kind) { return config::enum_name(kind); };
  if (!settings.path) {
    if (settings.kind == TokenizerKind::kBytes)
      return std::make_unique<ByteTokenizer>(settings.append_eod.value_or(false));
    throw DataError(
        fmt::format("tokenizer.path: got nothing; wanted the file of the {} tokenizer", name(settings.kind)));
  }
  auto tokenizer = load_tokenizer(*settings.path, settings.append_eod);
  if (tokenizer->kind() != settings.kind) {
    throw DataError(fmt::format("{}: got a {} tokenizer; tokenizer.kind wanted {}", *settings.path,
                                name(tokenizer->kind()), name(settings.kind)));
  }
  return tokenizer;
}

std::string describe(const Tokenizer& tokenizer) {
  size_t bytes = 0, longest = 0;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    bytes += tokenizer.token_text(id).size();
    longest = std::max(longest, tokenizer.token_text(id).size());
  }
  const auto eod = tokenizer.end_of_document();
  return fmt::format(
      "kind             {}\nvocab_size       {}\nend of document  {}\nfingerprint      {}\n"
      "bytes per token  {:.2f} on average over the vocabulary, at most {}\n",
      config::enum_name(tokenizer.kind()), tokenizer.vocab_size(), eod ? std::to_string(*eod) : "none",
      tokenizer.fingerprint(), static_cast<double>(bytes) / tokenizer.vocab_size(), longest);
}

}  // namespace cadre::data
