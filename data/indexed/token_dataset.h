#pragma once
// A token file, whatever its format: one flat stream of tokens, cut into documents.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace cadre::data {

class TokenDataset {
 public:
  virtual ~TokenDataset() = default;

  virtual const std::string& name() const = 0;  // what errors call it
  virtual int64_t tokens() const = 0;
  virtual int64_t documents() const = 0;
  // First token of `document`, which is in [0, documents()]; the last one is tokens().
  virtual int64_t document_start(int64_t document) const = 0;
  // Tokens [begin, begin + out.size()) as they stand in the file. Safe to call from several threads. Throws DataError
  // when the file cannot be read, or holds a token that is no 32-bit id (named by its position).
  virtual void read(int64_t begin, std::span<int32_t> out) const = 0;
  // Changes with the sizes, the header and a sample of pages; ranks compare it to know that they see the same data. 16
  // hexadecimal digits.
  virtual std::string fingerprint() const = 0;

  // The document that holds `token`, in [0, documents()); empty documents hold none.
  int64_t document_of(int64_t token) const;
  // As read, and every token must lie in [0, vocab_size): else DataError names the file and the token's position.
  void read_checked(int64_t begin, std::span<int32_t> out, int32_t vocab_size) const;
  // Reads all tokens so.
  void validate(int32_t vocab_size) const;
};

// `path` is the prefix of a Megatron .bin/.idx pair, either file of it, or an llm.c .bin. Throws DataError when files
// are missing or damaged, or hold no token.
std::unique_ptr<TokenDataset> open_token_dataset(const std::filesystem::path& path);

}  // namespace cadre::data
