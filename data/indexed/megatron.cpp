#include "data/indexed/megatron.h"

#include <fmt/core.h>

#include <algorithm>

#include "data/indexed/token_codec.h"

namespace cadre::data {
namespace {

std::filesystem::path with_suffix(std::filesystem::path prefix, std::string_view suffix) {
  prefix += suffix;
  return prefix;
}

}  // namespace

MegatronDataset::MegatronDataset(const std::filesystem::path& prefix)
    : name_(with_suffix(prefix, ".bin").string()),
      index_file_(with_suffix(prefix, ".idx")),
      tokens_file_(with_suffix(prefix, ".bin")),
      index_(parse_index(index_file_.bytes(), tokens_file_.size(), index_file_.path().string())) {
  if (index_.contiguous()) return;
  sequence_starts_.reserve(index_.sequences() + 1);
  uint64_t start = 0;
  for (uint64_t i = 0; i < index_.sequences(); ++i) {
    sequence_starts_.push_back(start);
    start += index_.length(i);
  }
  sequence_starts_.push_back(start);
}

uint64_t MegatronDataset::sequence_start(uint64_t sequence) const {
  if (sequence == index_.sequences()) return index_.tokens();
  return index_.contiguous() ? index_.byte_pointer(sequence) / size_of(index_.type()) : sequence_starts_[sequence];
}

int64_t MegatronDataset::document_start(int64_t document) const {
  return static_cast<int64_t>(sequence_start(index_.first_sequence(static_cast<uint64_t>(document))));
}

void MegatronDataset::read(int64_t begin, std::span<int32_t> out) const {
  if (index_.contiguous()) {
    return read_tokens(tokens_file_, static_cast<uint64_t>(begin) * size_of(index_.type()), index_.type(), begin, out);
  }
  const auto after = std::upper_bound(sequence_starts_.begin(), sequence_starts_.end(), static_cast<uint64_t>(begin));
  for (auto sequence = static_cast<uint64_t>(after - sequence_starts_.begin()) - 1; !out.empty(); ++sequence) {
    const uint64_t within = static_cast<uint64_t>(begin) - sequence_starts_[sequence];
    const auto take = static_cast<size_t>(std::min<uint64_t>(out.size(), index_.length(sequence) - within));
    read_tokens(tokens_file_, index_.byte_pointer(sequence) + within * size_of(index_.type()), index_.type(), begin,
                out.first(take));
    begin += static_cast<int64_t>(take);
    out = out.subspan(take);
  }
}

std::string MegatronDataset::fingerprint() const {
  return fmt::format("{:016x}", sample_hash(tokens_file_, sample_hash(InputFile(index_file_.path()), 0)));
}

}  // namespace cadre::data
