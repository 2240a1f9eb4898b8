#include "data/tokenizers/bytes.h"

#include <fmt/core.h>

#include <array>

#include "core/error.h"
#include "data/utf8.h"

namespace cadre::data {
namespace {

constexpr std::array<char, 256> kBytes = [] {
  std::array<char, 256> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(static_cast<unsigned char>(i));
  return bytes;
}();

}  // namespace

std::optional<int32_t> ByteTokenizer::end_of_document() const {
  return append_eod_ ? std::optional<int32_t>(256) : std::nullopt;
}

void ByteTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) {
  const size_t before = ids.size();
  ids.resize(before + text.size());
  int32_t* out = ids.data() + before;
  for (size_t i = 0; i < text.size(); ++i) out[i] = static_cast<unsigned char>(text[i]);
}

std::string_view ByteTokenizer::token_text(int32_t id) const {
  if (id < 0 || id >= vocab_size()) {
    throw DataError(fmt::format("byte tokenizer: got token {}; wanted 0 to {}", id, vocab_size() - 1));
  }
  if (id == 256) return {};
  return {&kBytes[static_cast<size_t>(id)], 1};
}

size_t ByteTokenizer::safe_cut(std::string_view text) const { return utf8_boundary(text, text.size()); }

std::string ByteTokenizer::serialize() const {
  return fmt::format("{{\"tokenizer\": \"bytes\", \"append_eod\": {}}}\n", append_eod_);
}

}  // namespace cadre::data
