#pragma once
// Text to token ids and back, without loss: decode(encode(x)) == x for every valid UTF-8 string x.
//
// encode is a pure function of its text. It is also local: there are positions (safe_cut) at which a text may be cut
// and encoded in parts with the same result, so that a file of any size is encoded in parallel and in bounded memory.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/settings.h"

namespace cadre::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual TokenizerKind kind() const = 0;
  virtual int32_t vocab_size() const = 0;
  // The end-of-document token; its text is empty. None when documents are not ended by a token.
  virtual std::optional<int32_t> end_of_document() const = 0;
  // Appends the ids of `text`. A Tokenizer may keep a cache: use one object per thread (see share).
  virtual void encode(std::string_view text, std::vector<int32_t>& ids) = 0;
  // The bytes that an id stands for; throws DataError for an id outside [0, vocab_size).
  virtual std::string_view token_text(int32_t id) const = 0;
  // The largest cut in (0, text.size()] such that for every continuation `rest`:
  // encode(text + rest) == encode(text[0, cut)) + encode(text[cut, end) + rest), for text that starts a document or
  // follows such a cut. A valid code point is never cut. 0 when there is none yet: give it more text (at most
  // max_uncut_bytes()).
  virtual size_t safe_cut(std::string_view text) const = 0;
  virtual size_t max_uncut_bytes() const = 0;
  // Another tokenizer for another thread; what can be shared is shared.
  virtual std::unique_ptr<Tokenizer> share() const = 0;
  // The tokenizer as a file holds it; parse_tokenizer reads it back. Checkpoints carry it.
  virtual std::string serialize() const = 0;

  std::vector<int32_t> encode(std::string_view text);
  std::string decode(std::span<const int32_t> ids) const;
  // 16 hexadecimal digits: equal when the same text gives the same ids.
  std::string fingerprint() const;
};

// `name` is what errors call it. A byte tokenizer is a line of JSON, a SentencePiece one is SentencePiece's own .model.
// `append_eod` overrides what the file says about ending documents by a token (SentencePiece's does not say: default on
// when the model has an end-of-sentence piece).
std::unique_ptr<Tokenizer> parse_tokenizer(std::string_view serialized, std::string_view name,
                                           std::optional<bool> append_eod = std::nullopt);
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path,
                                          std::optional<bool> append_eod = std::nullopt);
void save_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& path);
// From a config; throws DataError when a file is missing or is not of the kind that the settings name.
std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerSettings& settings);

// What `tokenizer info` prints, a line each.
std::string describe(const Tokenizer& tokenizer);

}  // namespace cadre::data
