#include "core/config/number.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace cadre::config {
namespace {

TEST(NumberTest, WholeNumbersTakeUnitsFractionsExponentsAndUnderscores) {
  const std::pair<const char*, std::int64_t> cases[] = {
      {"0", 0},
      {"-0", 0},
      {"+7", 7},
      {"64k", 64'000},
      {"64Ki", 65'536},
      {"1.5k", 1'500},
      {"0.5Ki", 512},
      {"3M", 3'000'000},
      {"1Mi", 1'048'576},
      {"2G", 2'000'000'000},
      {"1Gi", 1 << 30},
      {"1e6", 1'000'000},
      {"1_000", 1'000},
      {"12.50e1", 125},
      {"1T", 1'000'000'000'000},
      {"-1.5k", -1'500},
      {"0.001k", 1},
      {"1.0", 1},
      {"1_0.2_5k", 10'250},
      {"1Ti", 1LL << 40},
      {"0e99999", 0},
      {"100e-2", 1},
      {"9223372036854775807", std::numeric_limits<std::int64_t>::max()},
      {"-9223372036854775808", std::numeric_limits<std::int64_t>::min()}};
  for (const auto& [text, value] : cases) {
    const auto parsed = parse_int64(text);
    EXPECT_EQ(parsed.fault, "") << text;
    EXPECT_EQ(parsed.value, value) << text;
  }
  EXPECT_EQ(parse_uint64("18446744073709551615").value, std::numeric_limits<std::uint64_t>::max());
}

TEST(NumberTest, RefusesWhatIsNotAWholeNumber) {
  for (const char* text : {"",         "-",
                           "1.5",      "0.5",
                           "1.0001k",  "010",
                           "-007",     "0x10",
                           "0b1",      "1__0",
                           "_1",       "1_",
                           "1e",       "e5",
                           "1.5.2",    "1 000",
                           "1,000",    "64K",
                           "64kB",     "64ki",
                           ".nan",     ".inf",
                           "-.inf",    "nan",
                           "inf",      "9223372036854775808",
                           "1e19",     "1e99999",
                           "1e-99999", "1e100000",
                           "--1",      "one",
                           "1e5e5",    "10000000000000000000000000000",
                           "0.33333Gi"}) {
    EXPECT_NE(parse_int64(text).fault, "") << text;
  }
  EXPECT_NE(parse_uint64("-1").fault, "");
  EXPECT_NE(parse_uint64("18446744073709551616").fault, "");
}

TEST(NumberTest, MessagesSayWhatIsWrong) {
  EXPECT_EQ(parse_int64("010").fault,
            "got \"010\", wanted a whole number; a leading zero reads as octal in some programs, drop it");
  EXPECT_EQ(parse_int64("64K").fault,
            "got \"64K\", wanted a whole number; \"K\" is no unit, units are k, M, G, T and Ki, Mi, Gi, Ti");
  EXPECT_EQ(parse_int64("1.5").fault, "got \"1.5\", wanted a whole number");
  EXPECT_EQ(parse_double("1e999").fault, "got \"1e999\", beyond the range of a double");
}

TEST(NumberTest, DoublesAreTheNearestToWhatIsWritten) {
  EXPECT_EQ(parse_double("3e-4").value, 3e-4);
  EXPECT_EQ(parse_double(".5").value, 0.5);
  EXPECT_EQ(parse_double("5.").value, 5.0);
  EXPECT_EQ(parse_double("1.1k").value, 1100.0);
  EXPECT_EQ(parse_double("0.1Ki").value, 102.4);
  EXPECT_EQ(parse_double("1_000.5").value, 1000.5);
  EXPECT_EQ(parse_double("5e-324").value, 5e-324);
  EXPECT_TRUE(std::signbit(parse_double("-0").value));
  for (const char* text : {"", ".", ".nan", ".inf", "inf", "nan", "0x1p3", "01.5", "1e400", "1e", "abc", "1.5e3.2"}) {
    EXPECT_NE(parse_double(text).fault, "") << text;
  }
}

TEST(NumberTest, EveryFiniteDoubleRoundTrips) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t bits = random();
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    const auto parsed = parse_double(print_double(value));
    ASSERT_EQ(parsed.fault, "");
    ASSERT_EQ(std::memcmp(&parsed.value, &value, sizeof value), 0) << print_double(value);
  }
}

}  // namespace
}  // namespace cadre::config
