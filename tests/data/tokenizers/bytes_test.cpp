#include "data/tokenizers/bytes.h"

#include <gtest/gtest.h>

#include "tests/data/testing.h"

namespace cadre::data {
namespace {

TEST(ByteTokenizer, IsLosslessWithAVocabularyOf256) {
  ByteTokenizer tokenizer;
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const auto ids = tokenizer.Tokenizer::encode(all);
  for (int byte = 0; byte < 256; ++byte) EXPECT_EQ(ids[static_cast<size_t>(byte)], byte);
  EXPECT_EQ(tokenizer.decode(ids), all);
  EXPECT_EQ(tokenizer.vocab_size(), 256);
  EXPECT_FALSE(tokenizer.end_of_document());
}

TEST(ByteTokenizer, EndOfDocumentIsATokenOfItsOwn) {
  ByteTokenizer tokenizer(true);
  EXPECT_EQ(tokenizer.vocab_size(), 257);
  EXPECT_EQ(tokenizer.end_of_document(), 256);
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{65, 256, 66}), "AB");
  EXPECT_NE(tokenizer.fingerprint(), ByteTokenizer(false).fingerprint());
}

TEST(ByteTokenizer, RefusesUnknownIds) {
  const ByteTokenizer tokenizer;
  testing::expect_contains(testing::message_of<DataError>([&] { tokenizer.token_text(256); }),
                           "got token 256; wanted 0 to 255");
  EXPECT_THROW(tokenizer.token_text(-1), DataError);
}

TEST(ByteTokenizer, SavesAndLoads) {
  const testing::TemporaryDirectory directory;
  save_tokenizer(ByteTokenizer(true), directory / "bytes.json");
  EXPECT_EQ(load_tokenizer(directory / "bytes.json")->vocab_size(), 257);
  EXPECT_EQ(load_tokenizer(directory / "bytes.json", false)->vocab_size(), 256);
  TokenizerSettings settings;
  EXPECT_EQ(make_tokenizer(settings)->vocab_size(), 256);
  settings.path = (directory / "bytes.json").string();
  EXPECT_EQ(make_tokenizer(settings)->vocab_size(), 257);
  settings.kind = TokenizerKind::kSentencePiece;
  testing::expect_contains(testing::message_of<DataError>([&] { make_tokenizer(settings); }),
                           "got a bytes tokenizer; tokenizer.kind wanted sentencepiece");
}

TEST(ByteTokenizer, RefusesWhatIsNoTokenizer) {
  for (const char* text :
       {"", "{", "{}", "{\"tokenizer\": \"words\"}", "hello", "{\"tokenizer\": \"bytes\", \"append_eod\": 3}"}) {
    EXPECT_THROW(parse_tokenizer(text, "x"), DataError) << text;
  }
  testing::expect_contains(testing::message_of<DataError>([] { load_tokenizer("/nonexistent/tokenizer"); }),
                           "/nonexistent/tokenizer: cannot open");
}

}  // namespace
}  // namespace cadre::data
