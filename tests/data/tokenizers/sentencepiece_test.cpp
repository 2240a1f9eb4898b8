#include "data/tokenizers/sentencepiece.h"

#include <gtest/gtest.h>
#include <sentencepiece_trainer.h>

#include "data/tokenizers/chunker.h"
#include "data/tokenizers/train.h"
#include "data/utf8.h"
#include "tests/data/testing.h"

namespace cadre::data {
namespace {

using testing::nasty_text;
using testing::synthetic_prose;

std::unique_ptr<Tokenizer> train(PieceModel model, bool across_words, int vocab_size = 600) {
  const testing::TemporaryDirectory directory;
  TokenizerTrainOptions options;
  options.inputs.emplace_back().path = directory.write("prose.txt", synthetic_prose(200'000, 1));
  options.vocab_size = vocab_size;
  options.model = model;
  options.across_words = across_words;
  return train_sentencepiece(options);
}

struct Case {
  const char* name;
  PieceModel model;
  bool across_words;
};

class SentencePiece : public ::testing::TestWithParam<Case> {
 protected:
  static SentencePieceTokenizer& tokenizer() {
    static std::map<std::string, std::unique_ptr<Tokenizer>> trained;
    auto& entry = trained[GetParam().name];
    if (!entry) entry = train(GetParam().model, GetParam().across_words);
    return dynamic_cast<SentencePieceTokenizer&>(*entry);
  }
  static std::vector<int32_t> encode(std::string_view text) { return tokenizer().Tokenizer::encode(text); }
};

TEST_P(SentencePiece, IsLossless) {
  Rng draw(11, RngPurpose::kTest);
  for (int round = 0; round < 500; ++round) {
    const std::string text = nasty_text(1 + draw.below(60), draw) + synthetic_prose(draw.below(200), draw.bits());
    ASSERT_EQ(tokenizer().decode(encode(text)), text) << round;
  }
  EXPECT_TRUE(encode("").empty());
}

TEST_P(SentencePiece, KeepsEvenInvalidBytes) {
  Rng draw(12, RngPurpose::kTest);
  for (int round = 0; round < 200; ++round) {
    std::string text(1 + draw.below(64), ' ');
    for (char& c : text) c = static_cast<char>(draw.bits());
    ASSERT_EQ(tokenizer().decode(encode(text)), text) << round;
  }
}

TEST_P(SentencePiece, SpellsOutControlAndBytePieces) {
  for (const std::string text : {"<unk>", "<0x41>", "</s>", "<|endoftext|>", "\xE2\x96\x81",
                                 "\xE2\x96\x81"
                                 "a"}) {
    const auto ids = encode(text);
    EXPECT_GT(ids.size(), 1u) << text;
    EXPECT_EQ(tokenizer().decode(ids), text);
  }
}

TEST_P(SentencePiece, ANewlineIsAtMostOneToken) {
  EXPECT_EQ(encode("\n").size(), 1u);
  const std::string prose = synthetic_prose(20'000, 5);
  EXPECT_LT(encode(prose).size() * 5, prose.size() * 2);  // 2.5 bytes per token at the least
}

// BPE's merges are local: the same ids. The unigram model may choose another of two best segmentations: the same score.
TEST_P(SentencePiece, ChunksEncodeAsTheLibraryDoesTheWhole) {
  Rng draw(13, RngPurpose::kTest);
  for (int round = 0; round < 100; ++round) {
    std::string text;
    for (int i = 0; i < 4; ++i) {
      text += synthetic_prose(draw.below(400), draw.bits());
      if (round % 2) text += std::string_view("\xC3\xA9\xF0\x9F\x98\x80<unk>\n\t  x").substr(0, draw.below(2) * 17);
    }
    const auto chunked = encode(text), whole = tokenizer().encode_uncut(text);
    ASSERT_EQ(chunked.size(), whole.size()) << text;
    if (GetParam().model == PieceModel::kBpe) {
      ASSERT_EQ(chunked, whole) << text;
    } else {
      ASSERT_NEAR(tokenizer().score(chunked), tokenizer().score(whole), 1e-3) << text;
    }
  }
}

TEST_P(SentencePiece, EncodingDependsOnNothingButTheText) {
  const std::string text = synthetic_prose(30'000, 9);
  const auto first = encode(text);
  encode(synthetic_prose(100'000, 10));  // other chunks take cache places
  EXPECT_EQ(encode(text), first);
  EXPECT_EQ(tokenizer().share()->encode(text), first);
}

TEST_P(SentencePiece, SafeCutsChangeNothing) {
  Rng draw(14, RngPurpose::kTest);
  for (int round = 0; round < 60; ++round) {
    std::string text = synthetic_prose(draw.below(3000), draw.bits()) + nasty_text(40, draw);
    if (round % 3 == 0) text = std::string(draw.below(20'000), 'a') + text + std::string(draw.below(9'000), 'b');
    if (round % 5 == 0)
      for (int i = 0; i < 4000; ++i) text += "\xE4\xB8\xAD";
    const auto whole = encode(text);
    const size_t seen = draw.below(text.size() + 1);
    const size_t cut = tokenizer().safe_cut(std::string_view(text).substr(0, seen));
    ASSERT_LE(cut, seen);
    if (seen >= tokenizer().max_uncut_bytes()) {
      ASSERT_GT(cut, 0u);
    }
    auto parts = encode(text.substr(0, cut));
    const auto rest = encode(text.substr(cut));
    parts.insert(parts.end(), rest.begin(), rest.end());
    ASSERT_EQ(parts, whole) << round;
    ASSERT_EQ(utf8_boundary(text, cut), cut);
  }
}

TEST_P(SentencePiece, OneGiantWordIsEncodedInPieces) {
  const std::string text(300'000, 'z');
  EXPECT_EQ(tokenizer().decode(encode(text)), text);
}

TEST_P(SentencePiece, SavesAndLoads) {
  const testing::TemporaryDirectory directory;
  save_tokenizer(tokenizer(), directory / "pieces.model");
  const auto loaded = load_tokenizer(directory / "pieces.model");
  EXPECT_EQ(loaded->fingerprint(), tokenizer().fingerprint());
  EXPECT_EQ(loaded->kind(), TokenizerKind::kSentencePiece);
  EXPECT_EQ(loaded->vocab_size(), 600);
  EXPECT_EQ(loaded->end_of_document(), 1);
  EXPECT_EQ(loaded->token_text(1), "");
  EXPECT_FALSE(load_tokenizer(directory / "pieces.model", false)->end_of_document());
  EXPECT_THROW(loaded->token_text(600), DataError);
}

INSTANTIATE_TEST_SUITE_P(Models, SentencePiece,
                         ::testing::Values(Case{"Bpe", PieceModel::kBpe, false},
                                           Case{"Unigram", PieceModel::kUnigram, false},
                                           Case{"BpeAcrossWords", PieceModel::kBpe, true}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST(SentencePieceTraining, TwiceGivesTheSameBytes) {
  EXPECT_EQ(train(PieceModel::kUnigram, false)->serialize(), train(PieceModel::kUnigram, false)->serialize());
  EXPECT_EQ(train(PieceModel::kBpe, false)->serialize(), train(PieceModel::kBpe, false)->serialize());
}

TEST(SentencePieceTraining, LearnsFromJsonLines) {
  const testing::TemporaryDirectory directory;
  std::string lines;
  const std::string prose = synthetic_prose(150'000, 2);
  for (size_t at = 0; at < prose.size(); at += 1000) {
    lines += "{\"text\": \"";
    for (const char c : prose.substr(at, 1000)) lines += c == '\n' ? std::string("\\n") : std::string(1, c);
    lines += "\"}\n";
  }
  TokenizerTrainOptions options;
  options.inputs.emplace_back().path = directory.write("prose.jsonl", lines);
  options.vocab_size = 500;
  const auto tokenizer = train_sentencepiece(options);
  EXPECT_EQ(tokenizer->vocab_size(), 500);
  for (int32_t id = 0; id < 500; ++id) EXPECT_EQ(tokenizer->token_text(id).find("\\n"), std::string::npos);
}

TEST(SentencePieceTraining, RefusesTooLittle) {
  const testing::TemporaryDirectory directory;
  TokenizerTrainOptions options;
  EXPECT_THROW(train_sentencepiece(options), DataError);
  options.inputs.emplace_back().path = directory.write("short.txt", "too short for a thousand pieces");
  options.vocab_size = 1000;
  EXPECT_THROW(train_sentencepiece(options), DataError);
  options.vocab_size = 258;
  testing::expect_contains(testing::message_of<DataError>([&] { train_sentencepiece(options); }),
                           "wanted more than 258");
}

std::string foreign_model(const std::string& key, const std::string& value) {
  class Lines final : public sentencepiece::SentenceIterator {
   public:
    bool done() const override { return at_ >= 300; }
    void Next() override { ++at_; }
    const std::string& value() const override { return line_; }
    sentencepiece::util::Status status() const override { return {}; }

   private:
    int at_ = 0;
    std::string line_ = synthetic_prose(200, 4);
  } lines;
  std::unordered_map<std::string, std::string> arguments = {
      {"model_type", "bpe"},         {"vocab_size", "330"},
      {"byte_fallback", "true"},     {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"}, {"remove_extra_whitespaces", "false"},
      {"minloglevel", "2"},          {"hard_vocab_limit", "false"}};
  if (!key.empty()) arguments[key] = value;
  std::string model;
  EXPECT_TRUE(sentencepiece::SentencePieceTrainer::Train(arguments, &lines, &model).ok());
  return model;
}

TEST(SentencePieceModel, RefusesModelsThatAreNotLossless) {
  EXPECT_NO_THROW(parse_tokenizer(foreign_model("", ""), "m"));
  for (const auto& [key, value] : {std::pair{"add_dummy_prefix", "true"},
                                   {"remove_extra_whitespaces", "true"},
                                   {"normalization_rule_name", "nmt_nfkc"}}) {
    testing::expect_contains(testing::message_of<DataError>([&] { parse_tokenizer(foreign_model(key, value), "m"); }),
                             "m: the model rewrites text");
  }
  testing::expect_contains(
      testing::message_of<DataError>([] { parse_tokenizer(foreign_model("byte_fallback", "false"), "m"); }),
      "got 0 byte pieces; wanted 256");
}

TEST(SentencePieceModel, DamageIsAnErrorNotACrash) {
  const std::string model = foreign_model("", "");
  Rng draw(21, RngPurpose::kTest);
  for (int round = 0; round < 60; ++round) {
    std::string damaged = model.substr(0, draw.below(model.size()));
    for (int i = 0; i < 3 && !damaged.empty(); ++i)
      damaged[draw.below(damaged.size())] ^= static_cast<char>(1 << draw.below(8));
    try {
      parse_tokenizer(damaged, "damaged");
    } catch (const DataError&) {
    }
  }
}

}  // namespace
}  // namespace cadre::data
