#pragma once
// Stored tokens to and from 32-bit ids.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/files.h"
#include "data/indexed/format.h"

namespace cadre::data {

// out.size() tokens of `type` from byte `offset` of `file`; `first_token` is what errors call the first of them.
// Throws DataError on a short read or a token that 32 bits do not hold.
void read_tokens(const InputFile& file, uint64_t offset, TokenType type, int64_t first_token, std::span<int32_t> out);

// `ids` as bytes of `type`, appended. Throws InternalError when one does not fit.
void append_tokens(std::span<const int32_t> ids, TokenType type, std::vector<std::byte>& out);

// A hash of the file's size and of up to 64 pages of it, chained with `seed`.
uint64_t sample_hash(const InputFile& file, uint64_t seed);

}  // namespace cadre::data
