#include "data/indexed/token_codec.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace cadre::data {
namespace {

template <class T>
void widen(const InputFile& file, std::span<const std::byte> raw, int64_t first_token, std::span<int32_t> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, raw.data() + i * sizeof(T), sizeof(T));
    if constexpr (sizeof(T) == 8) {
      if (value < std::numeric_limits<int32_t>::min() || value > std::numeric_limits<int32_t>::max()) {
        throw DataError(fmt::format("{}: token {}: got id {}; wanted a 32-bit id", file.path().string(),
                                    first_token + static_cast<int64_t>(i), value));
      }
    }
    out[i] = static_cast<int32_t>(value);
  }
}

template <class T>
void narrow(std::span<const int32_t> ids, std::byte* out) {
  for (size_t i = 0; i < ids.size(); ++i) {
    const T value = static_cast<T>(ids[i]);
    if (static_cast<int64_t>(value) != ids[i]) {
      throw InternalError(fmt::format("token id {} does not fit in {} bytes", ids[i], sizeof(T)));
    }
    std::memcpy(out + i * sizeof(T), &value, sizeof(T));
  }
}

}  // namespace

void read_tokens(const InputFile& file, uint64_t offset, TokenType type, int64_t first_token, std::span<int32_t> out) {
  if (type == TokenType::kI32) return file.read(offset, std::as_writable_bytes(out));
  std::vector<std::byte> raw(out.size() * size_of(type));
  file.read(offset, raw);
  switch (type) {
    case TokenType::kU8: return widen<uint8_t>(file, raw, first_token, out);
    case TokenType::kI8: return widen<int8_t>(file, raw, first_token, out);
    case TokenType::kI16: return widen<int16_t>(file, raw, first_token, out);
    case TokenType::kI32: return;
    case TokenType::kI64: return widen<int64_t>(file, raw, first_token, out);
    case TokenType::kU16: return widen<uint16_t>(file, raw, first_token, out);
  }
}

void append_tokens(std::span<const int32_t> ids, TokenType type, std::vector<std::byte>& out) {
  const size_t before = out.size();
  out.resize(before + ids.size() * size_of(type));
  std::byte* place = out.data() + before;
  switch (type) {
    case TokenType::kU8: return narrow<uint8_t>(ids, place);
    case TokenType::kI8: return narrow<int8_t>(ids, place);
    case TokenType::kI16: return narrow<int16_t>(ids, place);
    case TokenType::kI32: return narrow<int32_t>(ids, place);
    case TokenType::kI64: return narrow<int64_t>(ids, place);
    case TokenType::kU16: return narrow<uint16_t>(ids, place);
  }
}

uint64_t sample_hash(const InputFile& file, uint64_t seed) {
  constexpr uint64_t kPage = 4096, kPages = 64;
  const uint64_t size = file.size();
  uint64_t hash = XXH3_64bits_withSeed(&size, sizeof(size), seed);
  const uint64_t pages = (size + kPage - 1) / kPage;
  std::vector<std::byte> page(kPage);
  for (uint64_t i = 0; i < std::min(pages, kPages); ++i) {
    // The first and the last page are always among them.
    const uint64_t number = pages <= kPages ? i : i * (pages - 1) / (kPages - 1);
    const size_t bytes = static_cast<size_t>(std::min(kPage, size - number * kPage));
    file.read(number * kPage, std::span(page).first(bytes));
    hash = XXH3_64bits_withSeed(page.data(), bytes, hash);
  }
  return hash;
}

}  // namespace cadre::data
