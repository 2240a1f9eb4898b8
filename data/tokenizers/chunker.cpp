#include "data/tokenizers/chunker.h"

#include "data/utf8.h"

namespace cadre::data {

void Chunker::add_piece(std::string_view piece) {
  for (size_t i = 1; i < piece.size(); ++i) {
    joined_[static_cast<unsigned char>(piece[i - 1])][static_cast<unsigned char>(piece[i])] = 1;
  }
}

bool Chunker::free(std::string_view text, size_t position) const {
  const auto before = static_cast<unsigned char>(text[position - 1]);
  const auto after = static_cast<unsigned char>(text[position]);
  if (!joined_[before][after]) return (after & 0xC0) != 0x80;
  if (after == 0xE2 && text.substr(position, 3) == kSpaceMark) return true;
  return before == 0x81 && position >= 3 && text.substr(position - 3, 3) == kSpaceMark;
}

size_t Chunker::next(std::string_view text) const {
  const size_t end = text.size() < kMaxChunkBytes ? text.size() : kMaxChunkBytes;
  size_t position = 1;
  while (position < end && !free(text, position)) ++position;
  if (position < end || text.size() <= kMaxChunkBytes) return position;
  const size_t whole = utf8_boundary(text, kMaxChunkBytes);
  return whole > 0 ? whole : kMaxChunkBytes;
}

size_t Chunker::safe_cut(std::string_view text) const {
  // A free junction is a chunk's start wherever the chunks before it lie; it is nearly always close to the end.
  const size_t near = text.size() > 4 * kMaxChunkBytes ? text.size() - 4 * kMaxChunkBytes : 1;
  for (size_t position = text.size(); position-- > near;) {
    if (position > 0 && free(text, position)) return position;
  }
  size_t start = 0;
  while (text.size() - start > kMaxChunkBytes) start += next(text.substr(start));
  return start;
}

}  // namespace cadre::data
