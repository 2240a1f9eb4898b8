#include "data/indexed/format.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/rng.h"
#include "tests/data/testing.h"

namespace cadre::data {
namespace {

template <class T>
void put(std::string& text, T value) {
  text.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

struct Index {
  std::string magic = std::string(kIndexMagic.data(), kIndexMagic.size());
  uint64_t version = 1;
  uint8_t type = 8;
  std::optional<uint64_t> sequences, document_index_length;
  std::vector<int32_t> lengths = {3, 0, 2};
  std::vector<int64_t> pointers = {0, 6, 6}, documents = {0, 1, 3};
  std::string tail;

  std::string bytes() const {
    std::string text = magic;
    put(text, version);
    put(text, type);
    put(text, sequences.value_or(lengths.size()));
    put(text, document_index_length.value_or(documents.size()));
    for (const auto length : lengths) put(text, length);
    for (const auto pointer : pointers) put(text, pointer);
    for (const auto document : documents) put(text, document);
    return text + tail;
  }
};

IndexView parse(const std::string& bytes, uint64_t bin_bytes = 10) {
  // An allocation of its own: the address sanitizer sees any read beyond.
  const std::vector<char> exact(bytes.begin(), bytes.end());
  const IndexView view = parse_index(std::as_bytes(std::span(exact)), bin_bytes, "x.idx");
  IndexView copy = view;  // its arrays die here; tests below look only at counts
  return copy;
}

TEST(IndexFormat, ReadsAHandMadeIndex) {
  const std::string bytes = Index().bytes();
  EXPECT_EQ(bytes.size(), 34u + 3 * 12 + 3 * 8);
  const IndexView view = parse_index(std::as_bytes(std::span(bytes)), 10, "x.idx");
  EXPECT_EQ(view.type(), TokenType::kU16);
  EXPECT_EQ(view.sequences(), 3u);
  EXPECT_EQ(view.documents(), 2u);
  EXPECT_EQ(view.tokens(), 5u);
  EXPECT_TRUE(view.contiguous());
  EXPECT_EQ(view.length(0), 3u);
  EXPECT_EQ(view.byte_pointer(2), 6u);
  EXPECT_EQ(view.first_sequence(2), 3u);
}

TEST(IndexFormat, AcceptsModesAndGaps) {
  Index index;
  index.tail = std::string(3, '\0');
  EXPECT_EQ(parse(index.bytes()).tokens(), 5u);
  index.pointers = {4, 0, 0};
  EXPECT_FALSE(parse(index.bytes()).contiguous());
}

TEST(IndexFormat, NamesWhatIsWrong) {
  const struct {
    std::function<void(Index&)> damage;
    const char* message;
  } cases[] = {
      {[](Index& i) { i.magic[0] = 'X'; }, "not a Megatron .idx"},
      {[](Index& i) { i.version = 2; }, "got version 2; wanted 1"},
      {[](Index& i) { i.type = 6; }, "got token type 6"},
      {[](Index& i) { i.type = 4; }, "wanted a multiple of the token size, 4"},
      {[](Index& i) { i.sequences = uint64_t{1} << 63; }, "too few for 9223372036854775808 sequences"},
      {[](Index& i) { i.sequences = 0x1555555555555556u; }, "too few"},  // 12 x this wraps around to 8
      {[](Index& i) { i.document_index_length = uint64_t{1} << 61; }, "too few"},
      {[](Index& i) { i.sequences = 4; }, "too few"},
      {[](Index& i) { i.document_index_length = 2; }, "got 8 bytes after the document index"},
      {[](Index& i) { i.documents.clear(); }, "empty document index"},
      {[](Index& i) { i.tail = "ab"; }, "got 2 bytes after the document index"},
      {[](Index& i) { i.lengths[1] = -1; }, "sequence 1: got length -1"},
      {[](Index& i) { i.lengths[2] = 3; }, "sequence 2: got 3 tokens from byte 6; the .bin has 10 bytes"},
      {[](Index& i) { i.lengths[2] = 0x7FFFFFFF; }, "sequence 2: got 2147483647 tokens"},
      {[](Index& i) { i.pointers[0] = -2; }, "sequence 0: got 3 tokens from byte -2"},
      {[](Index& i) { i.pointers[0] = INT64_MAX; }, "the .bin has 10 bytes"},
      {[](Index& i) { i.pointers[0] = 1; }, "sequence 0: got byte pointer 1; wanted a multiple"},
      {[](Index& i) { i.documents[0] = 1; }, "document_index[0]: got 1; wanted 0"},
      {[](Index& i) { i.documents[1] = 4; }, "document_index[1]: got 4; wanted 0 to 3"},
      {[](Index& i) { i.documents[1] = -1; }, "document_index[1]: got -1"},
      {[](Index& i) {
         i.documents = {0, 2, 1};
       },
       "document_index[2]: got 1; wanted 2 to 3"},
      {[](Index& i) { i.documents[2] = 2; }, "document_index ends at sequence 2; wanted 3"},
  };
  for (const auto& c : cases) {
    Index index;
    c.damage(index);
    const std::string message = testing::message_of<DataError>([&] { parse(index.bytes()); });
    testing::expect_contains(message, "x.idx: ");
    testing::expect_contains(message, c.message);
  }
}

TEST(IndexFormat, EveryTruncationIsRefused) {
  const std::string whole = Index().bytes();
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_THROW(parse(whole.substr(0, size)), DataError) << size;
}

TEST(IndexFormat, RandomDamageNeverCrashes) {
  Rng draw(31, RngPurpose::kTest);
  const std::string whole = Index().bytes();
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = whole.substr(0, draw.below(4) ? whole.size() : draw.below(whole.size()));
    for (uint64_t i = 0; i <= draw.below(4) && !bytes.empty(); ++i) {
      bytes[draw.below(bytes.size())] = static_cast<char>(draw.below(3) ? draw.bits() : 0xFF * draw.below(2));
    }
    try {
      parse(bytes, draw.below(20));
    } catch (const DataError&) {
    }
  }
}

}  // namespace
}  // namespace cadre::data
