#include "data/indexed/writer.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "data/indexed/token_codec.h"

namespace cadre::data {
namespace {

constexpr int64_t kMaxSequenceTokens = std::numeric_limits<int32_t>::max();

std::filesystem::path with_suffix(std::filesystem::path prefix, std::string_view suffix) {
  make_directories(prefix.parent_path());
  prefix += suffix;
  return prefix;
}

// Calls visit(value) for each T in the first `count` of a file.
template <class T, class Visit>
void for_each_value(const std::filesystem::path& path, uint64_t count, Visit visit) {
  const InputFile file(path);
  std::vector<T> block(size_t{1} << 16);
  for (uint64_t at = 0; at < count;) {
    const auto take = static_cast<size_t>(std::min<uint64_t>(block.size(), count - at));
    file.read(at * sizeof(T), std::as_writable_bytes(std::span(block).first(take)));
    for (size_t i = 0; i < take; ++i) visit(block[i]);
    at += take;
  }
}

}  // namespace

IndexedWriter::IndexedWriter(const std::filesystem::path& prefix, TokenType type)
    : prefix_(prefix),
      type_(type),
      bin_(with_suffix(prefix, ".bin")),
      idx_(with_suffix(prefix, ".idx")),
      metadata_(with_suffix(prefix, ".meta.json")),
      lengths_(with_suffix(prefix, ".idx.lengths")),
      document_index_(with_suffix(prefix, ".idx.documents")) {
  document_index_.write_value(int64_t{0});
}

void IndexedWriter::add(std::span<const int32_t> tokens) {
  while (!tokens.empty()) {
    const auto take = static_cast<size_t>(
        std::min<int64_t>(static_cast<int64_t>(tokens.size()), kMaxSequenceTokens - sequence_tokens_));
    scratch_.clear();
    append_tokens(tokens.first(take), type_, scratch_);
    bin_.write(scratch_);
    tokens_ += take;
    sequence_tokens_ += static_cast<int64_t>(take);
    document_open_ = true;
    if (sequence_tokens_ == kMaxSequenceTokens) end_sequence();
    tokens = tokens.subspan(take);
  }
}

void IndexedWriter::end_sequence() {
  lengths_.write_value(static_cast<int32_t>(sequence_tokens_));
  ++sequences_;
  sequence_tokens_ = 0;
}

void IndexedWriter::end_document() {
  // A document that filled its last sequence exactly needs no empty one; an empty document is an empty sequence.
  if (sequence_tokens_ > 0 || !document_open_) end_sequence();
  document_index_.write_value(static_cast<int64_t>(sequences_));
  ++documents_;
  document_open_ = false;
}

void IndexedWriter::write_index() {
  lengths_.finish();
  document_index_.finish();
  idx_.write(std::as_bytes(std::span(kIndexMagic)));
  idx_.write_value(kIndexVersion);
  idx_.write_value(static_cast<uint8_t>(type_));
  idx_.write_value(sequences_);
  idx_.write_value(documents_ + 1);
  const auto lengths = lengths_.temporary_path();
  for_each_value<int32_t>(lengths, sequences_, [&](int32_t length) { idx_.write_value(length); });
  int64_t pointer = 0;
  for_each_value<int32_t>(lengths, sequences_, [&](int32_t length) {
    idx_.write_value(pointer);
    pointer += int64_t{length} * static_cast<int64_t>(size_of(type_));
  });
  for_each_value<int64_t>(document_index_.temporary_path(), documents_ + 1,
                          [&](int64_t sequence) { idx_.write_value(sequence); });
}

void IndexedWriter::publish(std::string_view metadata) {
  if (document_open_) end_document();
  write_index();
  metadata_.write(metadata);
  bin_.finish();
  metadata_.finish();
  idx_.finish();
  std::error_code ignored;  // an .idx of an earlier run must never stand beside the new .bin
  std::filesystem::remove(with_suffix(prefix_, ".idx"), ignored);
  bin_.publish();
  metadata_.publish();
  idx_.publish();
  sync_directory(prefix_.parent_path());
}

}  // namespace cadre::data
