#include "data/prepare/piece_reader.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"

namespace cadre::data {

PieceReader::PieceReader(std::shared_ptr<const Input> input, const Tokenizer& tokenizer, Options options)
    : input_(std::move(input)), tokenizer_(tokenizer), options_(std::move(options)), read_to_(input_->begin) {
  const size_t least = tokenizer_.max_uncut_bytes() + options_.document_separator.size();
  options_.piece_bytes = std::max(options_.piece_bytes, least);
  if (input_->format == TextFormat::kJsonl) skip_partial_line();
}

void PieceReader::fill(size_t bytes) {
  if (buffer_.size() >= bytes || at_end()) return;
  const auto take = static_cast<size_t>(std::min<uint64_t>(bytes - buffer_.size(), input_->end - read_to_));
  const size_t before = buffer_.size();
  buffer_.resize(before + take);
  input_->file.read(read_to_, std::as_writable_bytes(std::span(buffer_).subspan(before)));
  read_to_ += take;
}

void PieceReader::skip_partial_line() {
  if (input_->begin == 0) return;
  char before = 0;
  input_->file.read(input_->begin - 1, std::as_writable_bytes(std::span(&before, 1)));
  if (before == '\n') return;
  while (true) {
    buffer_.clear();
    if (at_end()) return;
    fill(options_.piece_bytes);
    const size_t newline = buffer_.find('\n');
    if (newline == std::string::npos) continue;
    buffer_.erase(0, newline + 1);
    return;
  }
}

size_t PieceReader::text_cut() const {
  if (at_end() && buffer_.size() <= options_.piece_bytes) return buffer_.size();
  const std::string& separator = options_.document_separator;
  size_t after_separator = 0;
  if (!separator.empty()) {
    for (size_t at = buffer_.find(separator); at != std::string::npos; at = buffer_.find(separator, at)) {
      at += separator.size();
      after_separator = at;
    }
  }
  if (after_separator > 0) return after_separator;
  // A separator may have begun in the last bytes: they wait for the next piece.
  const size_t decided = buffer_.size() - (separator.empty() ? 0 : separator.size() - 1);
  return tokenizer_.safe_cut(std::string_view(buffer_).substr(0, decided));
}

size_t PieceReader::line_cut() {
  size_t searched = 0;
  while (true) {
    const size_t newline = buffer_.rfind('\n');
    if (newline != std::string::npos && newline >= searched) return newline + 1;
    if (at_end()) break;
    searched = buffer_.size();
    if (searched >= options_.max_line_bytes) {
      throw DataError(fmt::format("{}: the line at byte {} has more than {} bytes, the most allowed", input_->name(),
                                  read_to_ - buffer_.size(), options_.max_line_bytes));
    }
    fill(std::min(2 * buffer_.size() + 1, options_.max_line_bytes));
  }
  // The range ends within a line, which belongs to it to the line's end.
  uint64_t position = read_to_;
  while (position < input_->file.size() && !buffer_.ends_with('\n')) {
    std::string more(std::min<uint64_t>(4096, input_->file.size() - position), '\0');
    input_->file.read(position, std::as_writable_bytes(std::span(more)));
    const size_t newline = more.find('\n');
    buffer_.append(more, 0, newline == std::string::npos ? more.size() : newline + 1);
    position += more.size();
  }
  return buffer_.size();
}

bool PieceReader::next(Piece& piece) {
  fill(options_.piece_bytes);
  if (buffer_.empty()) return false;
  piece.input = input_;
  piece.offset = read_to_ - buffer_.size();
  const bool jsonl = input_->format == TextFormat::kJsonl;
  const size_t cut = jsonl ? line_cut() : text_cut();
  piece.bytes = buffer_.substr(0, cut);
  buffer_.erase(0, cut);
  piece.in_document = in_document_;
  piece.ends_input = at_end() && buffer_.empty();
  const std::string& separator = options_.document_separator;
  in_document_ = !jsonl && (separator.empty() || !piece.bytes.ends_with(separator));
  return true;
}

}  // namespace cadre::data
