#pragma once
// Cuts an input of any size into pieces of about a megabyte that can be encoded apart with the result of the whole.

#include <cstdint>
#include <memory>
#include <string>

#include "data/prepare/input.h"
#include "data/tokenizer.h"

namespace cadre::data {

struct Piece {
  std::shared_ptr<const Input> input;
  uint64_t offset = 0;  // of bytes[0] in the file
  std::string bytes;
  bool in_document = false;  // text: continues a document of the piece before it
  bool ends_input = false;
};

class PieceReader {
 public:
  struct Options {
    std::string document_separator;  // text: ends a document, and belongs to it; empty: a file is one document
    size_t piece_bytes = size_t{1} << 20;
    size_t max_line_bytes = size_t{256} << 20;  // JSONL
  };

  // `tokenizer` outlives the reader.
  PieceReader(std::shared_ptr<const Input> input, const Tokenizer& tokenizer, Options options);

  // False at the end. Text pieces end at a safe cut of the tokenizer, after a separator where there is one; JSONL
  // pieces are whole lines. Throws DataError on a failed read or a JSONL line longer than max_line_bytes.
  bool next(Piece& piece);

 private:
  void fill(size_t bytes);  // until buffer_ holds so many, or the range ends
  bool at_end() const { return read_to_ == input_->end; }
  size_t text_cut() const;
  size_t line_cut();
  void skip_partial_line();

  std::shared_ptr<const Input> input_;
  const Tokenizer& tokenizer_;
  Options options_;
  std::string buffer_;
  uint64_t read_to_;  // file offset of the end of buffer_
  bool in_document_ = false;
};

}  // namespace cadre::data
