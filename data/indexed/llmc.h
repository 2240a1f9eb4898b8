#pragma once
// Reads llm.c's .bin: a header of 256 x i32 {magic, version, tokens, ...}, then the tokens: u16 GPT-2 ids under magic
// 20240520 version 1, u32 Llama 3 ids under magic 20240801 version 7 (llm.c, dev/data/data_common.py). Documents start
// at the end-of-text token, 50256 or 128000.

#include <vector>

#include "data/files.h"
#include "data/indexed/format.h"
#include "data/indexed/token_dataset.h"

namespace cadre::data {

// The first four bytes are one of the two magics; false for files shorter than that.
bool is_llmc_file(const std::filesystem::path& path);

class LlmcDataset final : public TokenDataset {
 public:
  explicit LlmcDataset(const std::filesystem::path& path);

  const std::string& name() const override { return name_; }
  int64_t tokens() const override { return tokens_; }
  int64_t documents() const override { return static_cast<int64_t>(document_starts_.size()) - 1; }
  int64_t document_start(int64_t document) const override { return document_starts_[static_cast<size_t>(document)]; }
  void read(int64_t begin, std::span<int32_t> out) const override;
  std::string fingerprint() const override;

 private:
  void find_documents(int32_t end_of_text);

  std::string name_;
  InputFile file_;
  TokenType type_ = TokenType::kU16;
  int64_t tokens_ = 0;
  std::vector<int64_t> document_starts_;  // [documents + 1]
};

}  // namespace cadre::data
