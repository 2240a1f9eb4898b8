#include "data/prepare/prepare.h"

#include <fmt/core.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/rng.h"
#include "data/tokenizers/bytes.h"
#include "data/tokenizers/train.h"
#include "launch/bench/bench.h"
#include "launch/bench/scratch_directory.h"
#include "launch/bench/timing.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kTextBytes = uint64_t{32} << 20;

// 50,000 made-up words, drawn by Zipf's law: the n-th with a probability that falls as 1 / n.
void write_words(const fs::path& path) {
  constexpr size_t kWords = 50000, kLineWords = 14;
  constexpr const char* kSyllables[] = {"an",  "ber", "con", "der", "e",   "fa", "gi", "hor", "in", "ju",  "ka", "lo",
                                        "men", "no",  "or",  "pre", "qui", "ra", "st", "ti",  "un", "ver", "wa", "y"};
  Rng rng(1, RngPurpose::kTest);
  std::vector<std::string> words(kWords);
  for (size_t n = 0; n < kWords; ++n) {
    const uint64_t syllables = 1 + rng.below(n < 200 ? 2 : 4);
    for (uint64_t i = 0; i < syllables; ++i) words[n] += kSyllables[rng.below(std::size(kSyllables))];
  }
  std::ofstream file(path, std::ios::binary);
  uint64_t bytes = 0;
  for (size_t count = 1; bytes < kTextBytes; ++count) {
    const double n = std::exp(rng.uniform() * std::log(static_cast<double>(kWords)));
    const std::string& word = words[std::min(kWords - 1, static_cast<size_t>(n) - 1)];
    const char* end = count % kLineWords == 0 ? ".\n" : " ";
    file << word << end;
    bytes += word.size() + std::char_traits<char>::length(end);
  }
}

struct Rate {
  double bytes_per_second = 0, tokens_per_byte = 0;
};

Rate rate_of(const BenchOptions& options, const fs::path& text, const fs::path& output,
             const data::Tokenizer& tokenizer) {
  data::PrepareOptions prepare;
  prepare.inputs.emplace_back().path = text;
  prepare.output = output;
  prepare.invalid_utf8 = data::InvalidUtf8::kReplace;
  data::PrepareResult result;
  std::vector<double> seconds;
  for (double spent = 0; seconds.size() < 3 || spent < options.seconds; spent += seconds.back()) {
    seconds.push_back(seconds_of([&] { result = data::prepare(prepare, tokenizer); }));
  }
  const double bytes = static_cast<double>(result.source_bytes);
  return {bytes / median(std::move(seconds)), static_cast<double>(result.tokens) / bytes};
}

}  // namespace

nlohmann::json bench_prepare(Session&, const BenchOptions& options) {
  constexpr int kVocabulary = 4096;
  const ScratchDirectory scratch;
  fs::path text = options.text;
  if (text.empty()) write_words(text = scratch.path() / "words.txt");
  const Rate bytes = rate_of(options, text, scratch.path() / "bytes", data::ByteTokenizer());
  data::TokenizerTrainOptions train;
  train.inputs.emplace_back().path = text;
  train.vocab_size = kVocabulary;
  const auto tokenizer = data::train_sentencepiece(train);
  const Rate pieces = rate_of(options, text, scratch.path() / "pieces", *tokenizer);
  if (options.print) {
    fmt::print(
        "prepare on one core: bytes {:.1f} MB/s, SentencePiece (BPE, {} pieces) {:.1f} MB/s, {:.2f} bytes a piece\n",
        1e-6 * bytes.bytes_per_second, kVocabulary, 1e-6 * pieces.bytes_per_second, 1 / pieces.tokens_per_byte);
  }
  return {{"case", "prepare"},
          {"text", options.text.empty() ? "generated words" : options.text},
          {"bytes_per_second", bytes.bytes_per_second},
          {"sentencepiece_bytes_per_second", pieces.bytes_per_second},
          {"bytes_per_piece", 1 / pieces.tokens_per_byte}};
}

}  // namespace cadre::launch
