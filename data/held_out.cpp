#include "data/held_out.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"
#include "data/prepare/prepare.h"

namespace cadre::data {

void check_made_by(const std::string& path, const Tokenizer& tokenizer, std::string_view whose) {
  const auto metadata = read_metadata(path);
  if (!metadata || metadata->tokenizer_fingerprint == tokenizer.fingerprint()) return;
  throw DataError(fmt::format("{}: was made by tokenizer {}, {} is {}; prepare it with that one", path,
                              metadata->tokenizer_fingerprint, whose, tokenizer.fingerprint()));
}

HeldOut::HeldOut(const std::vector<std::string>& paths, const Tokenizer& tokenizer, std::string_view whose,
                 const Options& options)
    : options_(options) {
  EvalWindows::Options windows;
  windows.seq_length = options.seq_length;
  windows.stride = options.stride;
  windows.vocab_size = options.vocab_size;
  windows.context_token = tokenizer.end_of_document().value_or(0);
  windows.reset_at_documents = options.reset_at_documents;
  bool described = true;
  for (const std::string& path : paths) {
    datasets_.push_back(open_token_dataset(path));
    check_made_by(path, tokenizer, whose);
    const auto metadata = read_metadata(path);
    described = described && metadata;
    if (described) source_bytes_ += metadata->counts.source_bytes;
    sources_.emplace_back(datasets_.back(), windows);
    first_window_.push_back(first_window_.back() + sources_.back().count());
  }
  const int64_t all = first_window_.back(), scored = options.stride > 0 ? options.stride : options.seq_length;
  windows_ = options.tokens == 0 ? all : std::min(all, std::max<int64_t>(1, options.tokens / scored));
  if (!described) {
    source_bytes_ = 0;
    return;
  }
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    bytes_of_token_.push_back(static_cast<uint32_t>(tokenizer.token_text(id).size()));
  }
}

Batch HeldOut::load(int64_t first, int64_t count) const {
  Batch batch;
  batch.seq_length = options_.seq_length;
  // Window i of n among all N stands at floor(i N / n).
  const int64_t all = first_window_.back(), apart = all / windows_, rest = all % windows_;
  const int64_t last = std::min(first + count, windows_);
  for (int64_t i = first; i < last; ++i) {
    const int64_t window = i * apart + i * rest / windows_;
    const auto next = std::upper_bound(first_window_.begin(), first_window_.end(), window);
    const auto source = static_cast<size_t>(next - first_window_.begin() - 1);
    sources_[source].append(window - first_window_[source], batch);
  }
  return batch;
}

uint64_t HeldOut::check(int rank, int ranks) const {
  uint64_t bytes = 0;
  for (int64_t window = rank; window < windows_; window += ranks) {
    for (const int32_t target : load(window, 1).targets) {
      const bool counts = target != kIgnoredTarget && static_cast<size_t>(target) < bytes_of_token_.size();
      if (counts) bytes += bytes_of_token_[static_cast<size_t>(target)];
    }
  }
  return bytes;
}

std::string HeldOut::fingerprint() const {
  std::string text;
  for (const auto& dataset : datasets_) text += dataset->fingerprint();
  return text;
}

}  // namespace cadre::data
