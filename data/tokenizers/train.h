#pragma once
// Trains a SentencePiece model that SentencePieceTokenizer accepts as lossless, on a sample of a corpus.
//
// The sample is a pure function of the files' bytes and the seed: blocks of 64 KiB, those whose hash of (seed, file,
// block) is least. Two trainings on one machine give the same bytes.

#include <cstdint>
#include <string>
#include <vector>

#include "data/prepare/input.h"
#include "data/tokenizer.h"

namespace cadre::data {

enum class PieceModel { kUnigram, kBpe };

struct TokenizerTrainOptions {
  std::vector<InputRange> inputs;
  int vocab_size = 4096;
  // On English prose BPE gives fewer tokens than the unigram model, and trains several times faster.
  PieceModel model = PieceModel::kBpe;
  uint64_t sample_bytes = uint64_t{4} << 20;
  uint64_t seed = 1;
  // Pieces may hold several words: some 10% fewer tokens, slower to train and to encode.
  bool across_words = false;
  std::string json_key = "text";
};

// Throws DataError, e.g. when the sample is too small for the vocabulary.
std::unique_ptr<Tokenizer> train_sentencepiece(const TokenizerTrainOptions& options);

}  // namespace cadre::data
