#include "data/eval_windows.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"
#include "data/sampler.h"

namespace cadre::data {

EvalWindows::EvalWindows(std::shared_ptr<const TokenDataset> dataset, Options options)
    : dataset_(std::move(dataset)), options_(options) {
  if (options_.stride < 0 || options_.stride > options_.seq_length || options_.seq_length < 1) {
    throw ConfigError(
        fmt::format("evaluation stride: got {}; wanted 0 to seq_length {}", options_.stride, options_.seq_length));
  }
  if (options_.stride == 0) options_.stride = options_.seq_length;
}

int64_t EvalWindows::count() const {
  const int64_t after_first = std::max<int64_t>(0, dataset_->tokens() - options_.seq_length);
  return 1 + (after_first + options_.stride - 1) / options_.stride;
}

Batch EvalWindows::load(int64_t first, int64_t count) const {
  Batch batch;
  batch.seq_length = options_.seq_length;
  const int64_t last = std::min(first + count, this->count());
  for (int64_t window = first; window < last; ++window) append(window, batch);
  return batch;
}

void EvalWindows::append(int64_t window, Batch& batch) const {
  // Position p of the window holds stream token begin + p - 1 (the context token before token 0) and predicts begin +
  // p.
  const int64_t length = options_.seq_length, total = dataset_->tokens();
  const int64_t begin = window * options_.stride;
  const int64_t filled = std::min(length, total - begin);
  const int64_t scored_from = window == 0 ? 0 : length - options_.stride;
  const bool at_front = begin == 0;
  std::vector<int32_t> stream(static_cast<size_t>(filled + 1), options_.context_token);
  dataset_->read_checked(begin - (at_front ? 0 : 1), std::span(stream).subspan(at_front ? 1 : 0), options_.vocab_size);

  const size_t base = batch.tokens.size();
  batch.tokens.resize(base + static_cast<size_t>(length), 0);
  batch.targets.resize(base + static_cast<size_t>(length), kIgnoredTarget);
  batch.segment_start.resize(base + static_cast<size_t>(length), 0);
  std::copy(stream.begin(), stream.end() - 1, batch.tokens.begin() + static_cast<ptrdiff_t>(base));
  for (int64_t p = scored_from; p < filled; ++p) {
    batch.targets[base + static_cast<size_t>(p)] = stream[static_cast<size_t>(p) + 1];
  }
  if (options_.reset_at_documents) {
    // The context token counts with the first document.
    const auto starts = std::span(batch.segment_start).subspan(base, static_cast<size_t>(filled));
    if (!at_front) {
      fill_segment_starts(*dataset_, begin - 1, starts);
    } else if (filled > 1) {
      fill_segment_starts(*dataset_, 0, starts.subspan(1));
      for (int32_t& start : starts.subspan(1)) start = start == 0 ? 0 : start + 1;
    }
  }
  ++batch.samples;
  batch.target_tokens += std::max<int64_t>(0, filled - scored_from);
}

}  // namespace cadre::data
