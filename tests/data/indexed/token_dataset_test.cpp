#include "data/indexed/token_dataset.h"

#include <gtest/gtest.h>

#include <numeric>

#include "data/indexed/megatron.h"
#include "data/indexed/writer.h"
#include "tests/data/testing.h"

namespace cadre::data {
namespace {

using testing::expect_contains;
using testing::message_of;
using testing::TemporaryDirectory;

std::vector<int32_t> read(const TokenDataset& dataset, int64_t begin, size_t count) {
  std::vector<int32_t> tokens(count);
  dataset.read(begin, tokens);
  return tokens;
}

TEST(IndexedWriter, RoundTripsEveryTokenType) {
  const TemporaryDirectory directory;
  for (const auto& [type, top] :
       std::initializer_list<std::pair<TokenType, int32_t>>{{TokenType::kU8, 255},
                                                            {TokenType::kI8, 127},
                                                            {TokenType::kI16, 32767},
                                                            {TokenType::kU16, 65535},
                                                            {TokenType::kI32, 2'000'000'000},
                                                            {TokenType::kI64, 2'000'000'000}}) {
    IndexedWriter writer(directory / "set", type);
    writer.add(std::vector<int32_t>{1, 2, top});
    writer.end_document();
    writer.end_document();  // an empty one
    writer.add(std::vector<int32_t>{4});
    writer.add(std::vector<int32_t>{5});
    writer.publish("{}");
    const auto dataset = open_token_dataset(directory / "set");
    EXPECT_EQ(read(*dataset, 0, 5), (std::vector<int32_t>{1, 2, top, 4, 5}));
    EXPECT_EQ(read(*dataset, 2, 2), (std::vector<int32_t>{top, 4}));
    ASSERT_EQ(dataset->documents(), 3);
    EXPECT_EQ(dataset->document_start(1), 3);
    EXPECT_EQ(dataset->document_start(2), 3);
    EXPECT_EQ(dataset->document_start(3), 5);
    EXPECT_EQ(dataset->document_of(2), 0);
    EXPECT_EQ(dataset->document_of(3), 2);
  }
  EXPECT_EQ(directory.files(), 3u);  // .bin, .idx, .meta.json
}

TEST(IndexedWriter, TheBytesAreMegatrons) {
  const TemporaryDirectory directory;
  IndexedWriter writer(directory / "set", TokenType::kU16);
  writer.add(std::vector<int32_t>{258, 3});
  writer.end_document();
  writer.add(std::vector<int32_t>{7});
  writer.end_document();
  writer.publish("{}");
  EXPECT_EQ(testing::read_all(directory / "set.bin"), std::string("\x02\x01\x03\x00\x07\x00", 6));
  using namespace std::string_literals;
  EXPECT_EQ(testing::read_all(directory / "set.idx"),
            "MMIDIDX\0\0"s + "\1\0\0\0\0\0\0\0"s + "\x08"s + "\2\0\0\0\0\0\0\0"s + "\3\0\0\0\0\0\0\0"s +
                "\2\0\0\0\1\0\0\0"s + "\0\0\0\0\0\0\0\0"s + "\4\0\0\0\0\0\0\0"s + "\0\0\0\0\0\0\0\0"s +
                "\1\0\0\0\0\0\0\0"s + "\2\0\0\0\0\0\0\0"s);
}

TEST(IndexedWriter, DroppedItLeavesTheOldFilesAlone) {
  const TemporaryDirectory directory;
  IndexedWriter first(directory / "set", TokenType::kU8);
  first.add(std::vector<int32_t>{1});
  first.publish("{}");
  {
    IndexedWriter second(directory / "set", TokenType::kU8);
    second.add(std::vector<int32_t>{2, 3});
    EXPECT_THROW(second.add(std::vector<int32_t>{256}), InternalError);
  }
  EXPECT_EQ(open_token_dataset(directory / "set")->tokens(), 1);
  EXPECT_EQ(directory.files(), 3u);
}

class Opened : public ::testing::Test {
 protected:
  void SetUp() override {
    IndexedWriter writer(directory_ / "set", TokenType::kU16);
    std::vector<int32_t> tokens(100'000);
    std::iota(tokens.begin(), tokens.end(), 0);
    for (int32_t& token : tokens) token %= 1000;
    writer.add(tokens);
    writer.publish("{}");
  }
  TemporaryDirectory directory_;
};

TEST_F(Opened, ByPrefixOrEitherFile) {
  for (const char* name : {"set", "set.bin", "set.idx"}) {
    EXPECT_EQ(open_token_dataset(directory_ / name)->tokens(), 100'000) << name;
  }
}

TEST_F(Opened, ATokenBeyondTheVocabularyIsNamed) {
  const auto dataset = open_token_dataset(directory_ / "set");
  EXPECT_NO_THROW(dataset->validate(1000));
  expect_contains(message_of<DataError>([&] { dataset->validate(999); }),
                  "set.bin: token 999: got id 999; wanted 0 to 998");
  std::vector<int32_t> out(5);
  expect_contains(message_of<DataError>([&] { dataset->read_checked(70'997, out, 999); }), "token 70999: got id 999");
}

TEST_F(Opened, FingerprintSeesSizesAndPages) {
  const auto before = open_token_dataset(directory_ / "set")->fingerprint();
  EXPECT_EQ(open_token_dataset(directory_ / "set.idx")->fingerprint(), before);
  std::fstream(directory_ / "set.bin", std::ios::in | std::ios::out | std::ios::binary).write("\x05", 1);
  EXPECT_NE(open_token_dataset(directory_ / "set")->fingerprint(), before);
}

TEST_F(Opened, AFileThatShrinksIsAnError) {
  const auto dataset = open_token_dataset(directory_ / "set");
  std::filesystem::resize_file(directory_ / "set.bin", 1000);
  expect_contains(message_of<DataError>([&] { read(*dataset, 600, 10); }),
                  "set.bin: ends before byte 1200; wanted 20 bytes from byte 1200");
  expect_contains(message_of<DataError>([&] { open_token_dataset(directory_ / "set"); }), "the .bin has 1000 bytes");
}

TEST_F(Opened, MissingFilesAreNamed) {
  std::filesystem::remove(directory_ / "set.idx");
  expect_contains(message_of<DataError>([&] { open_token_dataset(directory_ / "set"); }), "found only the .bin");
  expect_contains(message_of<DataError>([&] { open_token_dataset(directory_ / "nothing"); }), "found neither");
}

TEST(TokenDataset, AnEmptyOneIsRefused) {
  const TemporaryDirectory directory;
  IndexedWriter(directory / "set", TokenType::kU8).publish("{}");
  expect_contains(message_of<DataError>([&] { open_token_dataset(directory / "set"); }), "holds no tokens");
  directory.write("none.bin", "");
  directory.write("none.idx", "");
  expect_contains(message_of<DataError>([&] { open_token_dataset(directory / "none"); }),
                  "got 0 bytes; wanted a header");
}

TEST(TokenDataset, SequencesMayLieAnywhereInTheBin) {
  const TemporaryDirectory directory;
  std::string idx(kIndexMagic.data(), kIndexMagic.size());
  const auto put = [&](auto value) { idx.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
  put(uint64_t{1});
  put(uint8_t{1});
  put(uint64_t{3});
  put(uint64_t{3});
  for (const int32_t length : {2, 0, 3}) put(length);
  for (const int64_t pointer : {4, 0, 0}) put(pointer);
  for (const int64_t document : {0, 2, 3}) put(document);
  directory.write("set.idx", idx);
  directory.write("set.bin", std::string("\1\2\3\4\5\6", 6));
  const auto dataset = open_token_dataset(directory / "set");
  EXPECT_EQ(read(*dataset, 0, 5), (std::vector<int32_t>{5, 6, 1, 2, 3}));
  EXPECT_EQ(read(*dataset, 1, 2), (std::vector<int32_t>{6, 1}));
  EXPECT_EQ(read(*dataset, 4, 1), (std::vector<int32_t>{3}));
  EXPECT_EQ(dataset->document_start(1), 2);
}

std::string llmc(int32_t magic, int32_t version, int32_t tokens, std::string_view body) {
  std::vector<int32_t> header(256, 0);
  header[0] = magic;
  header[1] = version;
  header[2] = tokens;
  return std::string(reinterpret_cast<const char*>(header.data()), 1024) + std::string(body);
}

TEST(Llmc, ReadsBothKindsAndTheirDocuments) {
  const TemporaryDirectory directory;
  const std::vector<uint16_t> gpt2 = {50256, 7, 8, 50256, 9};
  directory.write("gpt2.bin", llmc(20240520, 1, 5, {reinterpret_cast<const char*>(gpt2.data()), 10}));
  const auto small = open_token_dataset(directory / "gpt2.bin");
  EXPECT_EQ(read(*small, 0, 5), (std::vector<int32_t>{50256, 7, 8, 50256, 9}));
  EXPECT_EQ(small->documents(), 2);
  EXPECT_EQ(small->document_start(1), 3);
  const std::vector<uint32_t> llama = {7, 128000, 100'000};
  directory.write("llama.bin", llmc(20240801, 7, 3, {reinterpret_cast<const char*>(llama.data()), 12}));
  const auto large = open_token_dataset(directory / "llama");
  EXPECT_EQ(read(*large, 1, 2), (std::vector<int32_t>{128000, 100'000}));
  EXPECT_EQ(large->document_of(2), 1);
}

TEST(Llmc, NamesWhatIsWrong) {
  const TemporaryDirectory directory;
  const auto open = [&](const std::string& content) {
    directory.write("x.bin", content);
    return message_of<DataError>([&] { open_token_dataset(directory / "x.bin"); });
  };
  expect_contains(open(llmc(20240520, 7, 1, "ab")), "got version 7; wanted 1");
  expect_contains(open(llmc(20240520, 1, 2, "ab")), "got 2 bytes of tokens; its header wants 2 tokens of 2 bytes");
  expect_contains(open(llmc(20240520, 1, -1, "ab")), "wants -1 tokens");
  expect_contains(open(llmc(20240520, 1, 0, "")), "holds no tokens");
  expect_contains(open(llmc(20240520, 1, 1, "ab").substr(0, 100)), "got 100 bytes; wanted llm.c's header");
  expect_contains(open(llmc(123, 1, 1, "ab")), "only the .bin, which is not llm.c's either");
}

}  // namespace
}  // namespace cadre::data
