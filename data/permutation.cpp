#include "data/permutation.h"

#include <bit>

#include "core/rng.h"

namespace cadre::data {

Permutation::Permutation(uint64_t size, uint64_t seed, uint64_t stream)
    : size_(size), stream_(stream), half_bits_((std::bit_width(size > 1 ? size - 1 : 1) + 1) / 2) {
  // The key takes the seed as the purpose-bound generators do, so that a shuffle shares draws with nothing else.
  seed_ = Rng(seed, RngPurpose::kShuffle, stream).bits64();
}

uint64_t Permutation::encipher(uint64_t value) const {
  constexpr uint32_t kRounds = 6;
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint32_t round = 0; round < kRounds; ++round) {
    const auto draw = philox4x32(
        {static_cast<uint32_t>(right), static_cast<uint32_t>(right >> 32), round, static_cast<uint32_t>(stream_)},
        {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
    const uint64_t next = left ^ (((uint64_t{draw[1]} << 32) | draw[0]) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

uint64_t Permutation::operator()(uint64_t index) const {
  do {
    index = encipher(index);
  } while (index >= size_);
  return index;
}

}  // namespace cadre::data
