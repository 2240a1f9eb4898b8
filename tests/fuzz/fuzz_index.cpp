// The .idx reader: any bytes are read or refused with DataError, and what an accepted index points to lies within its
// .bin. Input: the size of the .bin (u32), then the .idx.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "core/error.h"
#include "data/indexed/format.h"

namespace {

void require(bool holds) {
  if (!holds) __builtin_trap();
}

void check_all(const cadre::data::IndexView& index, uint64_t bin_bytes) {
  const uint64_t token_bytes = cadre::data::size_of(index.type());
  uint64_t tokens = 0;
  for (uint64_t i = 0; i < index.sequences(); ++i) {
    const uint64_t bytes = index.length(i) * token_bytes;
    require(index.byte_pointer(i) % token_bytes == 0);
    require(index.byte_pointer(i) <= bin_bytes && bytes <= bin_bytes - index.byte_pointer(i));
    tokens += index.length(i);
  }
  require(tokens == index.tokens());
  for (uint64_t d = 0; d < index.documents(); ++d) require(index.first_sequence(d) <= index.first_sequence(d + 1));
  require(index.first_sequence(0) == 0 && index.first_sequence(index.documents()) == index.sequences());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t bin_bytes = 0;
  if (size < sizeof(bin_bytes)) return 0;
  std::memcpy(&bin_bytes, data, sizeof(bin_bytes));
  const std::span<const uint8_t> bytes(data + sizeof(bin_bytes), size - sizeof(bin_bytes));
  try {
    check_all(cadre::data::parse_index(std::as_bytes(bytes), bin_bytes, "fuzz.idx"), bin_bytes);
  } catch (const cadre::DataError&) {
  }
  return 0;
}
