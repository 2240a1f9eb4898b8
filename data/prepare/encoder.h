#pragma once
// One piece of input to tokens and document ends.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/prepare/piece_reader.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

namespace cadre::data {

enum class InvalidUtf8 { kError, kReplace };

struct EncodedPiece {
  std::vector<int32_t> tokens;
  std::vector<size_t> document_ends;  // counts of tokens before each end
  uint64_t text_bytes = 0;            // of the documents' text as it was in the source (JSONL: unescaped)
  uint64_t empty_documents = 0;       // JSONL lines with empty text, left out
  Utf8Replacement replaced;
};

// Not shared between threads.
class PieceEncoder {
 public:
  struct Options {
    InvalidUtf8 invalid_utf8 = InvalidUtf8::kError;
    std::string json_key = "text";
    std::string document_separator;
  };

  PieceEncoder(std::unique_ptr<Tokenizer> tokenizer, Options options);
  ~PieceEncoder();

  // Throws DataError that names the file and the byte: invalid UTF-8 under kError, a line that is no JSON object, or
  // has no string under the key.
  EncodedPiece encode(const Piece& piece);

 private:
  struct JsonParser;

  void encode_text(const Piece& piece, EncodedPiece& result);
  void encode_lines(const Piece& piece, EncodedPiece& result);
  void add_text(std::string_view text, const Piece& piece, uint64_t offset, EncodedPiece& result);
  void end_document(EncodedPiece& result);

  std::unique_ptr<Tokenizer> tokenizer_;
  Options options_;
  std::unique_ptr<JsonParser> json_;
};

}  // namespace cadre::data
