#include "core/io/hash.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/core/io/temporary_directory.h"

namespace cadre {
namespace {

TEST(Xxh3, KnownValueOfNothing) { EXPECT_EQ(xxh3_128({}), "99aa06d3014798d86001c324468d497f"); }

TEST(Xxh3, FileEqualsMemoryAcrossPieceBoundaries) {
  const testing::TemporaryDirectory directory;
  for (const size_t size : {size_t{0}, size_t{1}, (size_t{1} << 20) - 1, size_t{1} << 20, (size_t{3} << 20) + 17}) {
    std::string text(size, '\0');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 131 + (i >> 9));
    const auto path = directory.path() / "file";
    atomic_write(path, bytes_of(text));
    EXPECT_EQ(xxh3_128_of_file(path), xxh3_128(bytes_of(text))) << size;
  }
}

TEST(Xxh3, EveryBitCounts) {
  std::string text(1000, 'a');
  const std::string before = xxh3_128(bytes_of(text));
  for (size_t bit = 0; bit < 8 * text.size(); bit += 7) {
    text[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_NE(xxh3_128(bytes_of(text)), before);
    text[bit / 8] ^= static_cast<char>(1 << (bit % 8));
  }
}

TEST(Xxh3, MissingFileAndDirectoryAreErrors) {
  const testing::TemporaryDirectory directory;
  EXPECT_THROW(xxh3_128_of_file(directory.path() / "none"), CheckpointError);
  EXPECT_THROW(xxh3_128_of_file(directory.path()), CheckpointError);
}

}  // namespace
}  // namespace cadre
