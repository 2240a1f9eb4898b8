#include "data/settings.h"

#include <gtest/gtest.h>

#include "core/config/config.h"
#include "tests/data/testing.h"

namespace cadre::data {
namespace {

TEST(DataSettings, ReadsWhatTheDocsShow) {
  const auto settings =
      config::parse_text<DataSettings>("data.yaml",
                                       "tokenizer: {kind: sentencepiece, path: pieces.model, append_eod: false}\n"
                                       "train:\n  - {path: a, weight: 3}\n  - b\nvalidation: [c, {path: "
                                       "d}]\nseq_length: 1Ki\nreset_at_documents: true\n");
  EXPECT_EQ(settings.tokenizer.kind, TokenizerKind::kSentencePiece);
  EXPECT_EQ(settings.tokenizer.append_eod, false);
  ASSERT_EQ(settings.train.size(), 2u);
  EXPECT_EQ(settings.train[0].weight, 3);
  EXPECT_EQ(settings.train[1].path, "b");
  ASSERT_EQ(settings.validation.size(), 2u);
  EXPECT_EQ(settings.validation[0].path, "c");
  EXPECT_EQ(settings.validation[1].path, "d");
  EXPECT_EQ(settings.seq_length, 1024);
  EXPECT_TRUE(settings.reset_at_documents);
}

TEST(DataSettings, RefusesNonsense) {
  for (const char* text :
       {"tokenizer: sentencepiece", "seq_length: 0", "train: [{weight: 1}]", "train: [{path: a, weight: 0}]",
        "validation: [{path: a, weight: 1}]", "validation: ['']", "tokenizer: words", "seq_len: 3"}) {
    EXPECT_THROW(config::parse_text<DataSettings>("data.yaml", text), ConfigError) << text;
  }
}

}  // namespace
}  // namespace cadre::data
