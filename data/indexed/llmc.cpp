#include "data/indexed/llmc.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "data/indexed/token_codec.h"

namespace cadre::data {
namespace {

constexpr int32_t kGpt2Magic = 20240520, kLlama3Magic = 20240801;
constexpr int32_t kGpt2EndOfText = 50256, kLlama3EndOfText = 128000;
constexpr size_t kHeaderInts = 256;
constexpr uint64_t kHeaderBytes = kHeaderInts * sizeof(int32_t);

}  // namespace

bool is_llmc_file(const std::filesystem::path& path) {
  const InputFile file(path);
  std::array<int32_t, 1> magic{};
  if (file.size() < sizeof(magic)) return false;
  file.read(0, std::as_writable_bytes(std::span(magic)));
  return magic[0] == kGpt2Magic || magic[0] == kLlama3Magic;
}

LlmcDataset::LlmcDataset(const std::filesystem::path& path) : name_(path.string()), file_(path) {
  std::array<int32_t, kHeaderInts> header{};
  if (file_.size() < kHeaderBytes) {
    throw DataError(fmt::format("{}: got {} bytes; wanted llm.c's header of {}", name_, file_.size(), kHeaderBytes));
  }
  file_.read(0, std::as_writable_bytes(std::span(header)));
  const bool llama3 = header[0] == kLlama3Magic;
  if (!llama3 && header[0] != kGpt2Magic) {
    throw DataError(fmt::format("{}: got magic {}; wanted {} or {}", name_, header[0], kGpt2Magic, kLlama3Magic));
  }
  const int32_t version = llama3 ? 7 : 1;
  if (header[1] != version) {
    throw DataError(fmt::format("{}: got version {}; wanted {} for magic {}", name_, header[1], version, header[0]));
  }
  type_ = llama3 ? TokenType::kI32 : TokenType::kU16;
  tokens_ = header[2];
  const int64_t held = static_cast<int64_t>(file_.size() - kHeaderBytes);
  if (tokens_ < 0 || tokens_ * static_cast<int64_t>(size_of(type_)) != held) {
    throw DataError(fmt::format("{}: got {} bytes of tokens; its header wants {} tokens of {} bytes", name_, held,
                                tokens_, size_of(type_)));
  }
  find_documents(llama3 ? kLlama3EndOfText : kGpt2EndOfText);
}

void LlmcDataset::find_documents(int32_t end_of_text) {
  document_starts_.push_back(0);
  std::vector<int32_t> block(size_t{1} << 16);
  for (int64_t at = 0; at < tokens_;) {
    const auto take = static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(block.size()), tokens_ - at));
    read(at, std::span(block).first(take));
    for (size_t i = 0; i < take; ++i) {
      const int64_t position = at + static_cast<int64_t>(i);
      if (block[i] == end_of_text && position > 0) document_starts_.push_back(position);
    }
    at += static_cast<int64_t>(take);
  }
  document_starts_.push_back(tokens_);
}

void LlmcDataset::read(int64_t begin, std::span<int32_t> out) const {
  read_tokens(file_, kHeaderBytes + static_cast<uint64_t>(begin) * size_of(type_), type_, begin, out);
}

std::string LlmcDataset::fingerprint() const { return fmt::format("{:016x}", sample_hash(file_, 0)); }

}  // namespace cadre::data
