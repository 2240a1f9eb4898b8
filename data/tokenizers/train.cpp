#include "data/tokenizers/train.h"

#include <fmt/core.h>
#include <sentencepiece_trainer.h>
#include <simdjson.h>
#include <xxhash.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "data/prepare/piece_reader.h"
#include "data/tokenizers/bytes.h"
#include "data/tokenizers/sentencepiece.h"
#include "data/utf8.h"

namespace cadre::data {
namespace {

constexpr uint64_t kBlockBytes = uint64_t{64} << 10;
constexpr size_t kSentenceBytes = 2000;

struct Block {
  uint64_t order = 0;  // its hash
  size_t input = 0;
  uint64_t offset = 0;
};

std::vector<Block> choose_blocks(const std::vector<Input>& inputs, const TokenizerTrainOptions& options) {
  std::vector<Block> blocks;
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (uint64_t at = inputs[i].begin; at < inputs[i].end; at += kBlockBytes) {
      const std::array<uint64_t, 2> place = {i, at};
      blocks.push_back({XXH3_64bits_withSeed(place.data(), sizeof(place), options.seed), i, at});
    }
  }
  const uint64_t wanted = std::max<uint64_t>(1, options.sample_bytes / kBlockBytes);
  std::sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) {
    return std::tie(a.order, a.input, a.offset) < std::tie(b.order, b.input, b.offset);
  });
  if (blocks.size() > wanted) blocks.resize(wanted);
  std::sort(blocks.begin(), blocks.end(),
            [](const Block& a, const Block& b) { return std::tie(a.input, a.offset) < std::tie(b.input, b.offset); });
  return blocks;
}

bool is_space(char c) { return c == ' ' || c == '\n'; }

// Cuts where a run of whitespace starts, for a sentence is as long as the trainer takes one. The trainer refuses NUL
// and keeps TAB, U+2047 and U+2585 for itself; they cost byte pieces later, and here they end a sentence. Text that is
// not UTF-8 is left out.
class Sentences final : public sentencepiece::SentenceIterator {
 public:
  void add(std::string_view text) {
    constexpr std::array<std::string_view, 5> kReserved = {std::string_view("\0", 1), "\t", "\xE2\x81\x87",
                                                           "\xE2\x96\x85", "\xE2\x96\x81"};
    std::string current;
    const auto end_sentence = [&] {
      if (!current.empty()) sentences_.push_back(std::move(current));
      current.clear();
    };
    while (!text.empty()) {
      const Utf8Unit unit = next_utf8_unit(text);
      const std::string_view character = text.substr(0, unit.length);
      text.remove_prefix(unit.length);
      if (!unit.valid || std::find(kReserved.begin(), kReserved.end(), character) != kReserved.end()) {
        end_sentence();
        continue;
      }
      const bool starts_run = is_space(character[0]) && !current.empty() && !is_space(current.back());
      if (current.size() >= 2 * kSentenceBytes || (current.size() >= kSentenceBytes && starts_run)) end_sentence();
      current += character;
    }
    end_sentence();
  }
  bool empty() const { return sentences_.empty(); }

  bool done() const override { return next_ >= sentences_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return sentences_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> sentences_;
  size_t next_ = 0;
};

// The texts of the lines that start in a block; lines that do not parse are for `data prepare` to refuse.
void add_lines(const InputRange& block, const std::string& key, Sentences& sentences) {
  simdjson::dom::parser parser;
  const ByteTokenizer unused;
  PieceReader reader(std::make_shared<const Input>(open_input(block)), unused, {});
  for (Piece piece; reader.next(piece);) {
    std::string_view rest = piece.bytes;
    while (!rest.empty()) {
      const size_t newline = rest.find('\n');
      const std::string_view line = rest.substr(0, newline);
      rest.remove_prefix(newline == std::string_view::npos ? rest.size() : newline + 1);
      simdjson::dom::element document;
      std::string_view text;
      if (parser.parse(line.data(), line.size(), true).get(document)) continue;
      if (document[key].get_string().get(text)) continue;
      sentences.add(text);
    }
  }
}

Sentences sample(const TokenizerTrainOptions& options) {
  std::vector<Input> inputs;
  for (const InputRange& range : options.inputs) inputs.push_back(open_input(range));
  Sentences sentences;
  for (const Block& block : choose_blocks(inputs, options)) {
    const Input& input = inputs[block.input];
    const uint64_t length = std::min(kBlockBytes, input.end - block.offset);
    if (input.format == TextFormat::kJsonl) {
      InputRange range;
      range.path = input.file.path();
      range.format = TextFormat::kJsonl;
      range.offset = block.offset;
      range.length = length;
      add_lines(range, options.json_key, sentences);
      continue;
    }
    std::string bytes(length, '\0');
    input.file.read(block.offset, std::as_writable_bytes(std::span(bytes)));
    sentences.add(bytes);
  }
  if (sentences.empty()) throw DataError("tokenizer train: the input holds no text to learn from");
  return sentences;
}

std::unordered_map<std::string, std::string> trainer_arguments(const TokenizerTrainOptions& options) {
  return {
      {"model_type", options.model == PieceModel::kUnigram ? "unigram" : "bpe"},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"unk_id", "0"},
      {"eos_id", "1"},
      {"eos_piece", "<|endoftext|>"},
      {"bos_id", "-1"},
      {"pad_id", "-1"},
      // Lossless.
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"byte_fallback", "true"},
      // Runs of spaces and newlines are pieces like others, and a newline joins the punctuation and the indent around
      // it.
      {"allow_whitespace_only_pieces", "true"},
      {"split_by_unicode_script", "false"},
      {"split_by_whitespace", options.across_words ? "false" : "true"},
      {"character_coverage", "0.9999"},
      {"max_sentence_length", std::to_string(4 * kSentenceBytes)},
      // The trainer's sums depend on the number of threads.
      {"num_threads", "2"},
      {"minloglevel", "2"},
  };
}

}  // namespace

std::unique_ptr<Tokenizer> train_sentencepiece(const TokenizerTrainOptions& options) {
  if (options.inputs.empty()) throw DataError("tokenizer train: got no input; wanted at least one file");
  constexpr int kReservedPieces = 2 + 256;
  if (options.vocab_size <= kReservedPieces) {
    throw DataError(fmt::format("tokenizer train: vocab_size: got {}; wanted more than {} (256 bytes, unknown, end)",
                                options.vocab_size, kReservedPieces));
  }
  Sentences sentences = sample(options);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(trainer_arguments(options), &sentences, &model);
  if (!status.ok()) throw DataError(fmt::format("tokenizer train: {}", status.ToString()));
  return parse_tokenizer(model, "the trained model");
}

}  // namespace cadre::data
