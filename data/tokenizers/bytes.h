#pragma once
// The byte tokenizer: an id is a byte. Vocabulary of 256, or 257 with an end-of-document token, id 256. (Id 0 cannot
// serve as end of document: NUL is a valid character.)

#include "data/tokenizer.h"

namespace cadre::data {

class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(bool append_eod = false) : append_eod_(append_eod) {}

  using Tokenizer::encode;
  TokenizerKind kind() const override { return TokenizerKind::kBytes; }
  int32_t vocab_size() const override { return append_eod_ ? 257 : 256; }
  std::optional<int32_t> end_of_document() const override;
  void encode(std::string_view text, std::vector<int32_t>& ids) override;
  std::string_view token_text(int32_t id) const override;
  size_t safe_cut(std::string_view text) const override;
  size_t max_uncut_bytes() const override { return 4; }
  std::unique_ptr<Tokenizer> share() const override { return std::make_unique<ByteTokenizer>(append_eod_); }
  std::string serialize() const override;

 private:
  bool append_eod_;
};

}  // namespace cadre::data
