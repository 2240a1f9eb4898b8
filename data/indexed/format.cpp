#include "data/indexed/format.h"

#include <fmt/core.h>

#include "core/error.h"

namespace cadre::data {
namespace {

template <class... Args>
[[noreturn]] void fail(std::string_view name, fmt::format_string<Args...> format, Args&&... args) {
  throw DataError(fmt::format("{}: {}", name, fmt::format(format, std::forward<Args>(args)...)));
}

TokenType check_type(uint8_t code, std::string_view name) {
  switch (code) {
    case 1: return TokenType::kU8;
    case 2: return TokenType::kI8;
    case 3: return TokenType::kI16;
    case 4: return TokenType::kI32;
    case 5: return TokenType::kI64;
    case 8: return TokenType::kU16;
    default: fail(name, "got token type {}; wanted 1 (u8), 2 (i8), 3 (i16), 4 (i32), 5 (i64) or 8 (u16)", code);
  }
}

}  // namespace

IndexView parse_index(std::span<const std::byte> bytes, uint64_t bin_bytes, std::string_view name) {
  if (bytes.size() < kIndexHeaderBytes) {
    fail(name, "got {} bytes; wanted a header of {} bytes", bytes.size(), kIndexHeaderBytes);
  }
  if (std::memcmp(bytes.data(), kIndexMagic.data(), kIndexMagic.size()) != 0) {
    fail(name, "not a Megatron .idx: wanted it to start with \"MMIDIDX\"");
  }
  const auto u64_at = [&](size_t at) { return IndexView::load<uint64_t>(bytes.data() + at, 0); };
  if (u64_at(9) != kIndexVersion) fail(name, "got version {}; wanted {}", u64_at(9), kIndexVersion);
  IndexView view;
  view.type_ = check_type(static_cast<uint8_t>(bytes[17]), name);
  view.sequences_ = u64_at(18);
  view.document_index_length_ = u64_at(26);
  const uint64_t body = bytes.size() - kIndexHeaderBytes;
  if (view.sequences_ > body / 12 || view.document_index_length_ > (body - 12 * view.sequences_) / 8) {
    fail(name, "got {} bytes, too few for {} sequences and a document index of {}", bytes.size(), view.sequences_,
         view.document_index_length_);
  }
  if (view.document_index_length_ == 0) fail(name, "got an empty document index; wanted at least its leading 0");
  const uint64_t rest = body - 12 * view.sequences_ - 8 * view.document_index_length_;
  if (rest != 0 && rest != view.sequences_) {
    fail(name, "got {} bytes after the document index; wanted none, or a mode for each of {} sequences", rest,
         view.sequences_);
  }
  view.lengths_ = bytes.data() + kIndexHeaderBytes;
  view.pointers_ = view.lengths_ + 4 * view.sequences_;
  view.document_index_ = view.pointers_ + 8 * view.sequences_;
  view.check_sequences(bin_bytes, name);
  view.check_documents(name);
  return view;
}

void IndexView::check_sequences(uint64_t bin_bytes, std::string_view name) {
  const uint64_t token_bytes = size_of(type_);
  if (bin_bytes % token_bytes != 0) {
    fail(name, "its .bin has {} bytes; wanted a multiple of the token size, {}", bin_bytes, token_bytes);
  }
  uint64_t expected = 0;
  for (uint64_t i = 0; i < sequences_; ++i) {
    const auto signed_length = load<int32_t>(lengths_, i);
    const auto pointer = load<int64_t>(pointers_, i);
    if (signed_length < 0) fail(name, "sequence {}: got length {}; wanted at least 0", i, signed_length);
    const uint64_t length_bytes = static_cast<uint64_t>(signed_length) * token_bytes;
    if (pointer < 0 || static_cast<uint64_t>(pointer) > bin_bytes ||
        length_bytes > bin_bytes - static_cast<uint64_t>(pointer)) {
      fail(name, "sequence {}: got {} tokens from byte {}; the .bin has {} bytes", i, signed_length, pointer,
           bin_bytes);
    }
    if (static_cast<uint64_t>(pointer) % token_bytes != 0) {
      fail(name, "sequence {}: got byte pointer {}; wanted a multiple of the token size, {}", i, pointer, token_bytes);
    }
    contiguous_ = contiguous_ && static_cast<uint64_t>(pointer) == expected;
    expected = static_cast<uint64_t>(pointer) + length_bytes;
    tokens_ += static_cast<uint64_t>(signed_length);
  }
}

void IndexView::check_documents(std::string_view name) const {
  int64_t previous = 0;
  for (uint64_t i = 0; i < document_index_length_; ++i) {
    const auto sequence = load<int64_t>(document_index_, i);
    if (i == 0 && sequence != 0) fail(name, "document_index[0]: got {}; wanted 0", sequence);
    if (sequence < previous || static_cast<uint64_t>(sequence) > sequences_) {
      fail(name, "document_index[{}]: got {}; wanted {} to {}", i, sequence, previous, sequences_);
    }
    previous = sequence;
  }
  if (static_cast<uint64_t>(previous) != sequences_) {
    fail(name, "document_index ends at sequence {}; wanted {}, the number of sequences", previous, sequences_);
  }
}

}  // namespace cadre::data
