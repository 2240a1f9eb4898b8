#pragma once
// Megatron's indexed dataset (Megatron-LM, megatron/core/datasets/indexed_dataset.py), little-endian:
//   .bin  raw tokens
//   .idx  "MMIDIDX\0\0"; u64 version = 1; u8 type; u64 sequences; u64 document_index_length; i32 length[sequences];
//         i64 byte pointer[sequences]; i64 document_index[document_index_length], from 0 to sequences, so that document
//         d is the sequences [document_index[d], document_index[d + 1]); optionally i8 mode[sequences].

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace cadre::data {

inline constexpr std::array<char, 9> kIndexMagic = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
inline constexpr uint64_t kIndexVersion = 1;
inline constexpr size_t kIndexHeaderBytes = 34;

// How a token lies in the .bin; the values are the format's.
enum class TokenType : uint8_t { kU8 = 1, kI8 = 2, kI16 = 3, kI32 = 4, kI64 = 5, kU16 = 8 };
constexpr size_t size_of(TokenType type) {
  switch (type) {
    case TokenType::kU8:
    case TokenType::kI8: return 1;
    case TokenType::kI16:
    case TokenType::kU16: return 2;
    case TokenType::kI32: return 4;
    case TokenType::kI64: return 8;
  }
  return 0;
}
// The narrowest type that holds ids below `vocab_size`.
constexpr TokenType token_type_for(int64_t vocab_size) {
  return vocab_size <= 256 ? TokenType::kU8 : vocab_size <= 65536 ? TokenType::kU16 : TokenType::kI32;
}

// A checked .idx; borrows its bytes. Every sequence lies within the .bin, aligned; document_index is monotonic.
class IndexView {
 public:
  TokenType type() const { return type_; }
  uint64_t sequences() const { return sequences_; }
  uint64_t documents() const { return document_index_length_ - 1; }
  uint64_t tokens() const { return tokens_; }
  // Sequences follow one another in the .bin without gap or overlap, from its first byte on.
  bool contiguous() const { return contiguous_; }

  uint64_t length(uint64_t sequence) const { return static_cast<uint32_t>(load<int32_t>(lengths_, sequence)); }
  uint64_t byte_pointer(uint64_t sequence) const { return static_cast<uint64_t>(load<int64_t>(pointers_, sequence)); }
  uint64_t first_sequence(uint64_t document) const {
    return static_cast<uint64_t>(load<int64_t>(document_index_, document));
  }

 private:
  friend IndexView parse_index(std::span<const std::byte>, uint64_t, std::string_view);
  template <class T>
  static T load(const std::byte* array, uint64_t i) {  // arrays start at any byte
    T value;
    std::memcpy(&value, array + i * sizeof(T), sizeof(T));
    return value;
  }
  void check_sequences(uint64_t bin_bytes, std::string_view name);
  void check_documents(std::string_view name) const;

  TokenType type_ = TokenType::kU16;
  uint64_t sequences_ = 0, document_index_length_ = 1, tokens_ = 0;
  bool contiguous_ = true;
  const std::byte* lengths_ = nullptr;
  const std::byte* pointers_ = nullptr;
  const std::byte* document_index_ = nullptr;
};

// Checks all of an .idx against the size of its .bin; whatever the bytes, returns or throws DataError (never reads
// outside `bytes`), naming `name`, what was got and what was wanted. Linear in the size of the .idx.
IndexView parse_index(std::span<const std::byte> bytes, uint64_t bin_bytes, std::string_view name);

}  // namespace cadre::data
