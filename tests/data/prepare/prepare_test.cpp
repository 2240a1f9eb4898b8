#include "data/prepare/prepare.h"

#include <gtest/gtest.h>

#include "data/indexed/token_dataset.h"
#include "data/tokenizers/bytes.h"
#include "data/tokenizers/sentencepiece.h"
#include "data/tokenizers/train.h"
#include "tests/data/testing.h"

namespace cadre::data {
namespace {

using testing::expect_contains;
using testing::message_of;

class Prepare : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.output = directory_ / "out/set";
    options_.piece_bytes = 256;
  }
  PrepareResult run(std::string_view name, std::string_view content, const Tokenizer& tokenizer) {
    options_.inputs.assign(1, {});
    options_.inputs[0].path = directory_.write(name, content);
    return prepare(options_, tokenizer);
  }
  std::vector<int32_t> tokens() const {
    const auto dataset = open_token_dataset(options_.output);
    std::vector<int32_t> all(static_cast<size_t>(dataset->tokens()));
    dataset->read(0, all);
    return all;
  }
  std::vector<std::string> documents(const Tokenizer& tokenizer) const {
    const auto dataset = open_token_dataset(options_.output);
    const auto all = tokens();
    std::vector<std::string> texts;
    for (int64_t d = 0; d < dataset->documents(); ++d) {
      const auto begin = static_cast<size_t>(dataset->document_start(d)),
                 end = static_cast<size_t>(dataset->document_start(d + 1));
      texts.push_back(tokenizer.decode(std::span(all).subspan(begin, end - begin)));
    }
    return texts;
  }

  testing::TemporaryDirectory directory_;
  PrepareOptions options_;
  ByteTokenizer bytes_;
  ByteTokenizer ending_{true};
};

TEST_F(Prepare, AFileIsOneDocumentByteForByte) {
  const std::string text = testing::synthetic_prose(5000, 1);
  const PrepareResult result = run("a.txt", text, ending_);
  EXPECT_EQ(documents(ending_), std::vector<std::string>{text});
  EXPECT_EQ(tokens().back(), 256);
  EXPECT_EQ(result.tokens, 5001);
  EXPECT_EQ(result.source_bytes, 5000u);
  const auto metadata = read_metadata(directory_ / "out/set.idx");
  ASSERT_TRUE(metadata);
  EXPECT_EQ(metadata->tokenizer_fingerprint, ending_.fingerprint());
  EXPECT_EQ(metadata->vocab_size, 257);
  EXPECT_EQ(metadata->counts.source_bytes, 5000u);
}

TEST_F(Prepare, SeparatorsEndDocumentsAndStay) {
  options_.document_separator = "\n\n";
  for (const size_t piece : {16, 21, 64, 4096}) {
    options_.piece_bytes = piece;
    std::string text;
    std::vector<std::string> wanted;
    Rng draw(2, RngPurpose::kTest);
    for (int i = 0; i < 60; ++i) {
      std::string part(draw.below(50), 'x');
      if (draw.below(3) == 0) part += "\ny";
      part += "\n\n";
      wanted.push_back(part);
      text += part;
    }
    wanted.push_back("the last");
    EXPECT_EQ(run("a.txt", text + "the last", ending_).documents, 61) << piece;
    EXPECT_EQ(documents(ending_), wanted) << piece;
    EXPECT_EQ(run("a.txt", text, ending_).documents, 60) << piece;  // nothing follows the last separator
  }
}

TEST_F(Prepare, JsonLinesAreDocuments) {
  const PrepareResult result = run("a.jsonl",
                                   "{\"id\": 1, \"text\": \"caf\\u00e9\\n\"}\n\n{\"text\": \"\"}\r\n"
                                   "{\"text\": \"\xF0\x9F\x98\x80 two\", \"x\": [1]}",
                                   ending_);
  EXPECT_EQ(documents(ending_), (std::vector<std::string>{"caf\xC3\xA9\n", "\xF0\x9F\x98\x80 two"}));
  EXPECT_EQ(result.empty_documents, 1u);
  EXPECT_EQ(result.source_bytes, 6u + 8u);
  options_.json_key = "body";
  run("b.ndjson", "{\"body\": \"B\"}\n", ending_);
  EXPECT_EQ(documents(ending_), std::vector<std::string>{"B"});
}

TEST_F(Prepare, AdjacentJsonRangesShareOutTheLines) {
  std::string lines;
  std::vector<std::string> wanted;
  for (int i = 0; i < 40; ++i) {
    wanted.push_back("document " + std::to_string(i * i * i));
    lines += "{\"text\": \"" + wanted.back() + "\"}\n";
  }
  for (uint64_t cut = 1; cut < lines.size(); cut += 7) {
    options_.inputs.assign(2, {});
    options_.inputs[0].path = options_.inputs[1].path = directory_.write("a.jsonl", lines);
    options_.inputs[0].length = cut;
    options_.inputs[1].offset = cut;
    if (lines.size() - cut < 20) break;
    prepare(options_, ending_);
    ASSERT_EQ(documents(ending_), wanted) << cut;
  }
}

TEST_F(Prepare, HeldOutBytesAreExact) {
  const std::string text = testing::synthetic_prose(3000, 3);
  options_.inputs.assign(1, {});
  options_.inputs[0].path = directory_.write("a.txt", text);
  options_.inputs[0].skip_last = 1000;
  prepare(options_, bytes_);
  EXPECT_EQ(documents(bytes_), std::vector<std::string>{text.substr(0, 2000)});
  options_.inputs[0].skip_last = 0;
  options_.inputs[0].last = 1000;
  prepare(options_, bytes_);
  EXPECT_EQ(documents(bytes_), std::vector<std::string>{text.substr(2000)});
  options_.inputs[0].last = 3001;
  expect_contains(message_of<DataError>([&] { prepare(options_, bytes_); }), "last: got 3001; the file has 3000 bytes");
}

TEST_F(Prepare, InvalidUtf8IsAnErrorOrReplacedAndCounted) {
  const std::string text = testing::synthetic_prose(1000, 4) + "\xFF" + testing::synthetic_prose(500, 5) + "\xE2\x82";
  const std::string message = message_of<DataError>([&] { run("bad.txt", text, bytes_); });
  expect_contains(message, "bad.txt: byte 1000: got 0xFF, not valid UTF-8");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "out/set.idx"));
  EXPECT_EQ(std::filesystem::exists(directory_ / "out/set.bin.tmp"), false);
  options_.invalid_utf8 = InvalidUtf8::kReplace;
  const PrepareResult result = run("bad.txt", text, bytes_);
  EXPECT_EQ(result.replaced_sequences, 2u);
  EXPECT_EQ(result.replaced_bytes, 3u);
  EXPECT_EQ(result.source_bytes, 1503u);
  Utf8Replacement count;
  EXPECT_EQ(documents(bytes_), std::vector<std::string>{replace_invalid_utf8(text, count)});
}

TEST_F(Prepare, BadJsonIsNamedByItsByte) {
  const auto fails = [&](std::string_view second, std::string_view message) {
    const std::string text = "{\"text\": \"a\"}\n" + std::string(second) + "\n{\"text\": \"b\"}\n";
    expect_contains(message_of<DataError>([&] { run("a.jsonl", text, bytes_); }), message);
  };
  fails("{\"text\": ", "a.jsonl: line at byte 14: not JSON");
  fails("[1]", "a.jsonl: line at byte 14: not an object");
  fails("{\"txt\": \"a\"}", "no key \"text\"");
  fails("{\"text\": 3}", "\"text\" is no string");
  fails("{\"text\": \"\xFF\"}", "a.jsonl: byte 24: got 0xFF");
}

TEST_F(Prepare, EmptyAndMissingInputsAreErrors) {
  expect_contains(message_of<DataError>([&] { run("empty.txt", "", bytes_); }), "empty.txt: the file is empty");
  expect_contains(message_of<DataError>([&] { run("blank.jsonl", "\n\n", bytes_); }), "holds no text");
  options_.inputs[0].path = directory_ / "missing.txt";
  expect_contains(message_of<DataError>([&] { prepare(options_, bytes_); }), "missing.txt: cannot open: No such file");
  options_.inputs[0].path = directory_ / "out";
  EXPECT_THROW(prepare(options_, bytes_), DataError);
}

TEST_F(Prepare, AGiantLine) {
  const std::string line(300'000, 'g');
  EXPECT_EQ(run("giant.txt", line, bytes_).tokens, 300'000);
  EXPECT_EQ(run("giant.jsonl", "{\"text\": \"" + line + "\"}", bytes_).tokens, 300'000);
  options_.max_line_bytes = 100'000;
  expect_contains(message_of<DataError>([&] { run("giant.jsonl", "{\"text\": \"" + line + "\"}", bytes_); }),
                  "giant.jsonl: the line at byte 0 has more than 100000 bytes");
}

TEST_F(Prepare, ProgressReachesTheEnd) {
  PrepareProgress last;
  int calls = 0;
  options_.on_progress = [&](const PrepareProgress& progress) {
    EXPECT_GE(progress.bytes_done, last.bytes_done);
    last = progress;
    ++calls;
  };
  run("a.txt", testing::synthetic_prose(10'000, 6), bytes_);
  EXPECT_EQ(last.bytes_done, 10'000u);
  EXPECT_EQ(last.bytes_total, 10'000u);
  EXPECT_GT(calls, 10);
}

TEST_F(Prepare, ThreadsAndPiecesChangeNoToken) {
  TokenizerTrainOptions training;
  training.inputs.emplace_back().path = directory_.write("train.txt", testing::synthetic_prose(100'000, 7));
  training.vocab_size = 500;
  const auto tokenizer = train_sentencepiece(training);
  Rng draw(8, RngPurpose::kTest);
  const std::string text = testing::synthetic_prose(60'000, 9) + testing::nasty_text(2000, draw) +
                           std::string(20'000, 'q') + testing::synthetic_prose(60'000, 10);
  const auto whole = tokenizer->encode(text);
  for (const auto& [threads, piece] : {std::pair{1, 1 << 20}, {1, 5000}, {3, 4500}, {4, 9999}}) {
    options_.threads = threads;
    options_.piece_bytes = static_cast<size_t>(piece);
    run("a.txt", text, *tokenizer);
    auto got = tokens();
    ASSERT_EQ(got.back(), tokenizer->end_of_document());
    got.pop_back();
    ASSERT_EQ(got, whole) << threads << " " << piece;
  }
}

}  // namespace
}  // namespace cadre::data
