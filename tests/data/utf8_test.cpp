#include "data/utf8.h"

#include <gtest/gtest.h>

#include "core/rng.h"
#include "tests/data/testing.h"

namespace cadre::data {
namespace {

std::string replaced(std::string_view text) {
  Utf8Replacement count;
  return replace_invalid_utf8(text, count);
}

constexpr std::string_view kMark = "\xEF\xBF\xBD";

std::string marks(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += kMark;
  return text;
}

TEST(Utf8, AcceptsEveryCodePoint) {
  std::string all;
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    if (c < 0x80) {
      all += static_cast<char>(c);
    } else if (c < 0x800) {
      all += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      all += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
              static_cast<char>(0x80 | (c & 63))};
    } else {
      all += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
              static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
    }
  }
  EXPECT_EQ(find_invalid_utf8(all), kNoInvalidUtf8);
}

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_EQ(find_invalid_utf8("sixteen letters \xFF"), 16u);
  EXPECT_EQ(find_invalid_utf8("\xC0\xAF"), 0u);           // overlong
  EXPECT_EQ(find_invalid_utf8("a\xED\xA0\x80"), 1u);      // surrogate
  EXPECT_EQ(find_invalid_utf8("a\xF4\x90\x80\x80"), 1u);  // beyond U+10FFFF
  EXPECT_EQ(find_invalid_utf8("abc\xE2\x82"), 3u);        // cut short
}

// Unicode 15, tables 3-8 to 3-11.
TEST(Utf8, ReplacesMaximalSubparts) {
  EXPECT_EQ(replaced("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), marks(8) + "A");
  EXPECT_EQ(replaced("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), marks(8) + "A");
  EXPECT_EQ(replaced("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), marks(5) + "A" + marks(2) + "B");
  EXPECT_EQ(replaced("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), marks(4) + "A");
  Utf8Replacement count;
  replace_invalid_utf8("x\xF0\x91\x92y\xFF", count);
  EXPECT_EQ(count.sequences, 2u);
  EXPECT_EQ(count.bytes, 4u);
}

TEST(Utf8, BoundarySplitsNothingEvenInGarbage) {
  Rng draw(3, RngPurpose::kTest);
  for (int round = 0; round < 2000; ++round) {
    std::string text = testing::nasty_text(12, draw);
    for (int i = 0; i < 4 && round % 2; ++i) text[draw.below(text.size())] = static_cast<char>(draw.bits());
    const size_t position = draw.below(text.size() + 1);
    const size_t cut = utf8_boundary(text, position);
    ASSERT_LE(cut, position);
    ASSERT_LE(position - cut, 3u);
    // A cut of text is a boundary when replacing the parts is replacing the whole.
    ASSERT_EQ(replaced(text.substr(0, cut)) + replaced(text.substr(cut)), replaced(text)) << round;
  }
}

}  // namespace
}  // namespace cadre::data
