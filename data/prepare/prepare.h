#pragma once
// `cadre data prepare`: text and JSONL to a Megatron .bin/.idx pair, in parallel and in bounded memory.
//
// The result does not depend on the number of threads. Beside the .idx goes PREFIX.meta.json: the tokenizer's kind,
// fingerprint and vocabulary, and the counts of PrepareResult, so that bits per byte are over the source's real bytes.

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/prepare/encoder.h"
#include "data/prepare/input.h"
#include "data/tokenizer.h"

namespace cadre::data {

struct PrepareProgress {
  uint64_t bytes_done = 0, bytes_total = 0;  // of the source files
  int64_t tokens = 0, documents = 0;
};

struct PrepareOptions {
  std::vector<InputRange> inputs;
  std::filesystem::path output;  // prefix
  int threads = 1;
  InvalidUtf8 invalid_utf8 = InvalidUtf8::kError;
  std::string document_separator;  // text: e.g. "\n\n"; stays with the document that it ends. Empty: a file is one
  std::string json_key = "text";
  size_t piece_bytes = size_t{1} << 20;
  size_t max_line_bytes = size_t{256} << 20;
  std::function<void(const PrepareProgress&)> on_progress;  // on the calling thread, after each piece
};

struct PrepareResult {
  uint64_t source_bytes = 0;  // bytes of text: text files as they are, JSONL unescaped
  uint64_t file_bytes = 0;    // bytes of the ranges read
  uint64_t replaced_sequences = 0, replaced_bytes = 0;
  uint64_t empty_documents = 0;  // JSONL, left out
  int64_t tokens = 0, documents = 0;
};

// Throws DataError; then no file has changed.
PrepareResult prepare(const PrepareOptions& options, const Tokenizer& tokenizer);

// What PREFIX.meta.json says of a token file; nothing when there is none. Throws DataError when it is damaged.
struct TokenFileMetadata {
  std::string tokenizer_kind, tokenizer_fingerprint;
  int32_t vocab_size = 0;
  PrepareResult counts;
};
std::optional<TokenFileMetadata> read_metadata(const std::filesystem::path& token_file);

}  // namespace cadre::data
