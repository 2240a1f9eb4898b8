#pragma once
// Writes a Megatron .bin/.idx pair (format.h) as a stream, in memory that does not grow with it.
//
// Nothing has its final name until publish(), which renames the .idx last: who finds an .idx finds the .bin that
// belongs to it. A writer dropped before leaves nothing behind.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "data/files.h"
#include "data/indexed/format.h"

namespace cadre::data {

class IndexedWriter {
 public:
  // Files PREFIX.bin, PREFIX.idx and PREFIX.meta.json; the directory is made when missing.
  IndexedWriter(const std::filesystem::path& prefix, TokenType type);

  void add(std::span<const int32_t> tokens);  // to the current document
  void end_document();
  int64_t tokens() const { return static_cast<int64_t>(tokens_); }
  int64_t documents() const { return static_cast<int64_t>(documents_); }
  // Ends an open document, writes `metadata` (JSON) beside the .idx, and gives everything its name, durably.
  void publish(std::string_view metadata);

 private:
  void end_sequence();
  void write_index();

  std::filesystem::path prefix_;
  TokenType type_;
  OutputFile bin_, idx_, metadata_;
  OutputFile lengths_, document_index_;  // spilled, for the .idx wants its counts first; never published
  std::vector<std::byte> scratch_;
  uint64_t tokens_ = 0, sequences_ = 0, documents_ = 0;
  int64_t sequence_tokens_ = 0;
  bool document_open_ = false;
};

}  // namespace cadre::data
