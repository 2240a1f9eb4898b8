#pragma once
// SentencePiece (Kudo and Richardson, "SentencePiece: a simple and language independent subword tokenizer", EMNLP 2018;
// Debian's libsentencepiece) made lossless and fast.
//
// Lossless: the model must not rewrite text (identity normalisation, no dummy prefix, whitespace kept) and must hold
// all 256 byte pieces; what its pieces cannot spell exactly (U+2581 itself, ill-formed bytes) is written as bytes.
// Pieces such as "<unk>", "</s>" or "<0x41>" spelt out in a text are ordinary characters. Fast: text is encoded chunk
// by chunk (chunker.h), and the ids of short chunks are remembered.

#include "data/tokenizer.h"

namespace cadre::data {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  // `serialized` is a .model file. Throws DataError that names `name` when it is damaged or not lossless.
  static std::unique_ptr<SentencePieceTokenizer> parse(std::string_view serialized, std::string_view name,
                                                       std::optional<bool> append_eod);
  ~SentencePieceTokenizer() override;

  using Tokenizer::encode;
  TokenizerKind kind() const override { return TokenizerKind::kSentencePiece; }
  int32_t vocab_size() const override;
  std::optional<int32_t> end_of_document() const override;
  void encode(std::string_view text, std::vector<int32_t>& ids) override;
  std::string_view token_text(int32_t id) const override;
  size_t safe_cut(std::string_view text) const override;
  size_t max_uncut_bytes() const override;
  std::unique_ptr<Tokenizer> share() const override;
  std::string serialize() const override;

  // What the library itself makes of the whole text, uncut and uncached; the oracle of tests.
  std::vector<int32_t> encode_uncut(std::string_view text) const;
  // Sum of the pieces' scores (unigram: log probabilities).
  double score(std::span<const int32_t> ids) const;

 private:
  struct Model;
  class Cache;
  explicit SentencePieceTokenizer(std::shared_ptr<const Model> model);

  void encode_chunk(std::string_view chunk, std::vector<int32_t>& ids) const;

  std::shared_ptr<const Model> model_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace cadre::data
