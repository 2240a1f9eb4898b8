#include "data/held_out.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "data/prepare/prepare.h"
#include "data/tokenizers/bytes.h"
#include "tests/data/testing.h"

namespace cadre::data {
namespace {

using testing::expect_contains;
using testing::message_of;

class HeldOutTest : public ::testing::Test {
 protected:
  // A token file of a text; its prefix.
  std::string prepared(const std::string& name, const std::string& text, const Tokenizer& tokenizer) {
    PrepareOptions options;
    options.inputs.assign(1, {});
    options.inputs[0].path = directory_.write(name + ".txt", text);
    options.output = directory_ / name;
    options.invalid_utf8 = InvalidUtf8::kReplace;
    prepare(options, tokenizer);
    return options.output.string();
  }
  HeldOut held_out(const std::vector<std::string>& paths, int64_t tokens = 0, int32_t vocab_size = 256) const {
    return HeldOut(paths, bytes_, "data.tokenizer", {8, 0, vocab_size, false, tokens});
  }
  static std::string targets(const HeldOut& held_out, int64_t first, int64_t count) {
    std::string text;
    for (const int32_t target : held_out.load(first, count).targets) {
      if (target != kIgnoredTarget) text += static_cast<char>(target);
    }
    return text;
  }

  testing::TemporaryDirectory directory_;
  ByteTokenizer bytes_;
};

TEST_F(HeldOutTest, AllTokensOfAllFilesInTheirOrder) {
  const std::string one = testing::synthetic_prose(61, 1), two = "x", three = testing::synthetic_prose(40, 2);
  const HeldOut all =
      held_out({prepared("one", one, bytes_), prepared("two", two, bytes_), prepared("three", three, bytes_)});
  EXPECT_EQ(all.windows(), 8 + 1 + 5);
  EXPECT_EQ(targets(all, 0, 100), one + two + three);
  EXPECT_EQ(all.load(7, 3).samples, 3) << "a batch may hold windows of several files";
  EXPECT_EQ(targets(all, 7, 3), one.substr(56) + two + three.substr(0, 8));
  EXPECT_EQ(all.load(13, 5).samples, 1);
}

TEST_F(HeldOutTest, APartIsWholeWindowsSpreadEvenly) {
  const std::string text = testing::synthetic_prose(8 * 101, 3);
  const std::string path = prepared("set", text, bytes_);
  for (const int64_t windows : {1, 2, 7, 50, 100, 101}) {
    const HeldOut part = held_out({path}, windows * 8 + 5);
    ASSERT_EQ(part.windows(), windows);
    int64_t before = -1;
    for (int64_t i = 0; i < windows; ++i) {
      const int64_t expected = i * 101 / windows;
      ASSERT_GT(expected, before) << "no window twice";
      EXPECT_EQ(targets(part, i, 1), text.substr(static_cast<size_t>(expected) * 8, 8));
      before = expected;
    }
  }
  EXPECT_EQ(held_out({path}, 1).windows(), 1) << "one at least";
  EXPECT_EQ(held_out({path}, 1 << 30).windows(), 101);
}

TEST_F(HeldOutTest, KnowsTheBytesBehindItsTokens) {
  const std::string text = testing::synthetic_prose(400, 4);
  const std::string path = prepared("set", text + "\xff", bytes_), other = prepared("other", text, bytes_);
  const HeldOut all = held_out({path, other});
  EXPECT_EQ(all.source_bytes(), 801u) << "as they were in the source";
  for (const int ranks : {1, 2, 3, 200}) {
    uint64_t sum = 0;
    for (int rank = 0; rank < ranks; ++rank) sum += all.check(rank, ranks);
    EXPECT_EQ(sum, 803u) << "the invalid one is three bytes as a token";
  }
  const HeldOut part = held_out({path, other}, 80);
  EXPECT_EQ(part.source_bytes(), 0u);
  EXPECT_EQ(part.check(0, 1), targets(part, 0, 10).size());
  std::filesystem::remove(other + ".meta.json");
  EXPECT_EQ(held_out({path, other}).source_bytes(), 0u);
  EXPECT_EQ(held_out({path, other}).check(0, 1), 0u) << "may be anybody's tokens";
}

TEST_F(HeldOutTest, TheEndOfADocumentIsNoText) {
  const ByteTokenizer ending(true);
  const std::string path = prepared("set", "ten bytes.", ending);
  const HeldOut held_out({path}, ending, "data.tokenizer", {8, 0, 257, false, 0});
  EXPECT_EQ(held_out.load(0, 9).target_tokens, 11);
  EXPECT_EQ(held_out.check(0, 1), 10u);
}

TEST_F(HeldOutTest, RefusesWhatCannotBeScored) {
  const std::string path = prepared("set", testing::synthetic_prose(100, 5), ByteTokenizer(true));
  expect_contains(message_of<DataError>([&] { held_out({path}); }), path + ": was made by tokenizer ");
  expect_contains(message_of<DataError>([&] { held_out({(directory_ / "none").string()}); }), "none.bin");
  std::filesystem::remove(path + ".meta.json");
  const HeldOut believed = held_out({path});  // its last token is the end of the document, 256
  const auto last = static_cast<int>((believed.windows() - 1) % 3);
  for (int rank = 0; rank < 3; ++rank) {
    if (rank == last) {
      expect_contains(message_of<DataError>([&] { believed.check(rank, 3); }), "256");
    } else {
      EXPECT_EQ(believed.check(rank, 3), 0u);
    }
  }
  EXPECT_EQ(held_out({path}, 0, 257).check(0, 1), 0u);
}

TEST_F(HeldOutTest, TheFingerprintIsThatOfAllFiles) {
  const std::string one = prepared("one", "one text", bytes_), two = prepared("two", "two texts", bytes_);
  EXPECT_EQ(held_out({one, two}).fingerprint(), held_out({one, two}).fingerprint());
  EXPECT_NE(held_out({one, two}).fingerprint(), held_out({two, one}).fingerprint());
  EXPECT_NE(held_out({one, two}).fingerprint(), held_out({one}).fingerprint());
}

}  // namespace
}  // namespace cadre::data
