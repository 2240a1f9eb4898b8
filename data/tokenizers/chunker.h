#pragma once
// Cuts text where no piece of a vocabulary reaches across, so that parts can be encoded apart, cached, and in parallel.
//
// A junction (x, y) is a pair of adjacent bytes. Where no piece holds x directly before y, both the unigram model's
// best path and BPE's merges fall apart into those of the two sides, so cutting there does not change an encoding.
// (Scores are summed in floating point: between two segmentations of equal score, the chunk's own choice is the
// definition.)

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cadre::data {

class Chunker {
 public:
  // A stretch without a free junction is cut after this many bytes, less what would split a code point.
  static constexpr size_t kMaxChunkBytes = 4096;

  // Forbids cuts inside `piece` (as it appears in text: a space is a space).
  void add_piece(std::string_view piece);

  // Length of the first chunk of `text`, which is not empty and starts at a chunk's start.
  size_t next(std::string_view text) const;
  // See Tokenizer::safe_cut.
  size_t safe_cut(std::string_view text) const;

 private:
  bool free(std::string_view text, size_t position) const;

  std::array<std::array<uint8_t, 256>, 256> joined_{};
};

// U+2581, which SentencePiece writes for a space; as a character of the text it is always a chunk of its own.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

}  // namespace cadre::data
