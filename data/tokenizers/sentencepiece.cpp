#include "data/tokenizers/sentencepiece.h"

#include <fmt/core.h>
#include <sentencepiece_processor.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "data/tokenizers/chunker.h"

namespace cadre::data {

struct SentencePieceTokenizer::Model {
  std::string serialized;
  sentencepiece::SentencePieceProcessor processor;
  std::vector<std::string> texts;  // [vocab_size]
  std::array<int32_t, 256> bytes{};
  std::optional<int32_t> end_of_document;
  Chunker chunker;

  void encode(std::string_view text, std::vector<int>& ids) const {
    const auto status = processor.Encode(absl::string_view(text.data(), text.size()), &ids);
    if (!status.ok()) throw DataError(fmt::format("sentencepiece cannot encode: {}", status.ToString()));
  }
  bool spells(const std::vector<int>& ids, std::string_view text) const {
    for (const int id : ids) {
      const std::string& piece = texts[static_cast<size_t>(id)];
      if (!text.starts_with(piece)) return false;
      text.remove_prefix(piece.size());
    }
    return text.empty();
  }
  void read_pieces(std::string_view name);
  void require_lossless(std::string_view name) const;
};

// Direct-mapped: a chunk has one place, and the last that wanted it owns it. About 5 MB.
class SentencePieceTokenizer::Cache {
 public:
  struct Entry {
    static constexpr size_t kTextBytes = 38, kIds = 8;
    std::array<char, kTextBytes> text;
    uint8_t length = 0;  // 0: empty
    uint8_t count = 0;
    std::array<int32_t, kIds> ids;

    bool holds(std::string_view chunk) const {
      return length == chunk.size() && std::memcmp(text.data(), chunk.data(), length) == 0;
    }
  };

  Entry& at(std::string_view chunk) { return entries_[XXH3_64bits(chunk.data(), chunk.size()) % kEntries]; }

 private:
  static constexpr size_t kEntries = size_t{1} << 16;
  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);
};

void SentencePieceTokenizer::Model::read_pieces(std::string_view name) {
  const int size = processor.GetPieceSize();
  int found = 0;
  for (int id = 0; id < size; ++id) {
    if (processor.IsControl(id) || processor.IsUnknown(id)) {
      texts.emplace_back();
      continue;
    }
    const std::string& piece = processor.IdToPiece(id);
    if (processor.IsByte(id)) {
      const int byte = std::stoi(piece.substr(3, 2), nullptr, 16);  // "<0x41>"
      bytes[static_cast<size_t>(byte)] = id;
      texts.emplace_back(1, static_cast<char>(static_cast<unsigned char>(byte)));
      ++found;
      continue;
    }
    std::string text;
    for (size_t i = 0; i < piece.size(); ++i) {
      const bool space = std::string_view(piece).substr(i, kSpaceMark.size()) == kSpaceMark;
      text += space ? ' ' : piece[i];
      if (space) i += kSpaceMark.size() - 1;
    }
    chunker.add_piece(text);
    texts.push_back(std::move(text));
  }
  if (found != 256) {
    throw DataError(fmt::format("{}: got {} byte pieces; wanted 256 (train with byte fallback)", name, found));
  }
}

void SentencePieceTokenizer::Model::require_lossless(std::string_view name) const {
  // Full-width letters, ligatures and combined accents fall to NFKC, the rest to whitespace rules and the dummy prefix.
  for (const std::string_view probe :
       {"a", " a", "a  b ", "a\nb", "\t\r\n", "\xEF\xBC\xA1", "\xEF\xAC\x81", "e\xCC\x81"}) {
    std::vector<int> ids;
    encode(probe, ids);
    if (!spells(ids, probe)) {
      throw DataError(
          fmt::format("{}: the model rewrites text; wanted one trained with identity normalisation, "
                      "add_dummy_prefix=false and remove_extra_whitespaces=false",
                      name));
    }
  }
}

std::unique_ptr<SentencePieceTokenizer> SentencePieceTokenizer::parse(std::string_view serialized,
                                                                      std::string_view name,
                                                                      std::optional<bool> append_eod) {
  auto model = std::make_shared<Model>();
  model->serialized = serialized;
  const auto status = model->processor.LoadFromSerializedProto(model->serialized);
  if (serialized.empty() || !status.ok()) {
    throw DataError(fmt::format("{}: got {} bytes that are not a SentencePiece model{}", name, serialized.size(),
                                serialized.empty() ? "" : ": " + status.ToString()));
  }
  const int eod = model->processor.eos_id();
  if (append_eod.value_or(false) && eod < 0) {
    throw DataError(fmt::format("{}: append_eod: the model has no end-of-sentence piece", name));
  }
  if (append_eod.value_or(true) && eod >= 0) model->end_of_document = eod;
  model->read_pieces(name);
  model->require_lossless(name);
  return std::unique_ptr<SentencePieceTokenizer>(new SentencePieceTokenizer(std::move(model)));
}

SentencePieceTokenizer::SentencePieceTokenizer(std::shared_ptr<const Model> model)
    : model_(std::move(model)), cache_(std::make_unique<Cache>()) {}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

int32_t SentencePieceTokenizer::vocab_size() const { return static_cast<int32_t>(model_->texts.size()); }

std::optional<int32_t> SentencePieceTokenizer::end_of_document() const { return model_->end_of_document; }

void SentencePieceTokenizer::encode_chunk(std::string_view chunk, std::vector<int32_t>& ids) const {
  std::vector<int> pieces;
  if (chunk != kSpaceMark) model_->encode(chunk, pieces);
  if (!pieces.empty() && model_->spells(pieces, chunk)) {
    ids.insert(ids.end(), pieces.begin(), pieces.end());
    return;
  }
  for (const char byte : chunk) ids.push_back(model_->bytes[static_cast<unsigned char>(byte)]);
}

void SentencePieceTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) {
  while (!text.empty()) {
    const std::string_view chunk = text.substr(0, model_->chunker.next(text));
    text.remove_prefix(chunk.size());
    if (chunk.size() > Cache::Entry::kTextBytes) {
      encode_chunk(chunk, ids);
      continue;
    }
    Cache::Entry& entry = cache_->at(chunk);
    if (!entry.holds(chunk)) {
      const size_t before = ids.size();
      encode_chunk(chunk, ids);
      const size_t count = ids.size() - before;
      if (count > Cache::Entry::kIds) continue;
      std::copy(chunk.begin(), chunk.end(), entry.text.begin());
      entry.length = static_cast<uint8_t>(chunk.size());
      entry.count = static_cast<uint8_t>(count);
      std::copy(ids.begin() + static_cast<ptrdiff_t>(before), ids.end(), entry.ids.begin());
      continue;
    }
    ids.insert(ids.end(), entry.ids.begin(), entry.ids.begin() + entry.count);
  }
}

std::string_view SentencePieceTokenizer::token_text(int32_t id) const {
  if (id < 0 || id >= vocab_size()) {
    throw DataError(fmt::format("sentencepiece tokenizer: got token {}; wanted 0 to {}", id, vocab_size() - 1));
  }
  return model_->texts[static_cast<size_t>(id)];
}

size_t SentencePieceTokenizer::safe_cut(std::string_view text) const { return model_->chunker.safe_cut(text); }

size_t SentencePieceTokenizer::max_uncut_bytes() const { return Chunker::kMaxChunkBytes + 1; }

std::unique_ptr<Tokenizer> SentencePieceTokenizer::share() const {
  return std::unique_ptr<SentencePieceTokenizer>(new SentencePieceTokenizer(model_));
}

std::string SentencePieceTokenizer::serialize() const { return model_->serialized; }

std::vector<int32_t> SentencePieceTokenizer::encode_uncut(std::string_view text) const {
  std::vector<int> ids;
  model_->encode(text, ids);
  return {ids.begin(), ids.end()};
}

double SentencePieceTokenizer::score(std::span<const int32_t> ids) const {
  double sum = 0;
  for (const int32_t id : ids) sum += static_cast<double>(model_->processor.GetScore(id));
  return sum;
}

}  // namespace cadre::data
