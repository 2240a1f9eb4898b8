#include "data/indexed/token_dataset.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"
#include "data/files.h"
#include "data/indexed/llmc.h"
#include "data/indexed/megatron.h"

namespace cadre::data {
namespace {

std::filesystem::path with_suffix(std::filesystem::path prefix, std::string_view suffix) {
  prefix += suffix;
  return prefix;
}

bool is_file(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

std::unique_ptr<TokenDataset> open_any(const std::filesystem::path& path) {
  std::filesystem::path prefix = path;
  const std::string extension = path.extension().string();
  if (extension == ".bin" || extension == ".idx") prefix.replace_extension();
  const auto bin = with_suffix(prefix, ".bin"), idx = with_suffix(prefix, ".idx");
  if (is_file(bin) && is_llmc_file(bin)) return std::make_unique<LlmcDataset>(bin);
  if (is_file(bin) && is_file(idx)) return std::make_unique<MegatronDataset>(prefix);
  if (is_file(path) && is_llmc_file(path)) return std::make_unique<LlmcDataset>(path);
  throw DataError(fmt::format("{}: wanted token files {} and {} (`cadre data prepare` makes them), found {}",
                              path.string(), bin.string(), idx.string(),
                              is_file(bin)   ? "only the .bin, which is not llm.c's either"
                              : is_file(idx) ? "only the .idx"
                                             : "neither"));
}

}  // namespace

int64_t TokenDataset::document_of(int64_t token) const {
  int64_t low = 0, high = documents();  // document_start(low) <= token < document_start(high)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (document_start(middle) <= token ? low : high) = middle;
  }
  return low;
}

void TokenDataset::read_checked(int64_t begin, std::span<int32_t> out, int32_t vocab_size) const {
  read(begin, out);
  for (size_t i = 0; i < out.size(); ++i) {
    if (static_cast<uint32_t>(out[i]) >= static_cast<uint32_t>(vocab_size)) {
      throw DataError(fmt::format("{}: token {}: got id {}; wanted 0 to {}", name(), begin + static_cast<int64_t>(i),
                                  out[i], vocab_size - 1));
    }
  }
}

void TokenDataset::validate(int32_t vocab_size) const {
  std::vector<int32_t> block(size_t{1} << 16);
  for (int64_t at = 0; at < tokens();) {
    const int64_t take = std::min<int64_t>(static_cast<int64_t>(block.size()), tokens() - at);
    read_checked(at, std::span(block).first(static_cast<size_t>(take)), vocab_size);
    at += take;
  }
}

std::unique_ptr<TokenDataset> open_token_dataset(const std::filesystem::path& path) {
  auto dataset = open_any(path);
  if (dataset->tokens() == 0) throw DataError(fmt::format("{}: holds no tokens", dataset->name()));
  return dataset;
}

}  // namespace cadre::data
