#include "data/sampler.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <algorithm>

#include "core/error.h"
#include "data/permutation.h"

namespace cadre::data {
namespace {

Mixture make_mixture(const std::vector<Sampler::Source>& sources) {
  std::vector<double> weights;
  for (const Sampler::Source& source : sources) weights.push_back(source.weight);
  return Mixture(weights);
}

}  // namespace

Sampler::Sampler(std::vector<Source> sources, Options options)
    : sources_(std::move(sources)), options_(options), mixture_(make_mixture(sources_)) {
  if (options_.seq_length < 1 || options_.vocab_size < 1) {
    throw ConfigError(fmt::format("sampler: got seq_length {} and a vocabulary of {}; wanted 1 or more",
                                  options_.seq_length, options_.vocab_size));
  }
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (windows(static_cast<int>(i)) > 0) continue;
    const TokenDataset& dataset = *sources_[i].dataset;
    throw DataError(fmt::format("{}: got {} tokens; wanted at least {} for one sample of seq_length {}", dataset.name(),
                                dataset.tokens(), options_.seq_length + 1, options_.seq_length));
  }
}

int64_t Sampler::windows(int source) const {
  return (sources_[static_cast<size_t>(source)].dataset->tokens() - 1) / options_.seq_length;
}

Sampler::Place Sampler::place(int64_t sample) const {
  const Mixture::Place drawn = mixture_.place(sample);
  const int64_t count = windows(drawn.source);
  const int64_t epoch = drawn.index / count;
  const uint64_t stream = (static_cast<uint64_t>(drawn.source) << 32) | static_cast<uint64_t>(epoch);
  const Permutation order(static_cast<uint64_t>(count), options_.seed, stream);
  return {drawn.source, epoch, static_cast<int64_t>(order(static_cast<uint64_t>(drawn.index % count)))};
}

Batch Sampler::load(int64_t first, int64_t count) const {
  Batch batch;
  batch.seq_length = options_.seq_length;
  std::vector<int32_t> window(static_cast<size_t>(options_.seq_length) + 1);
  for (int64_t sample = first; sample < first + count; ++sample) {
    const Place at = place(sample);
    const TokenDataset& dataset = *sources_[static_cast<size_t>(at.source)].dataset;
    const int64_t begin = at.window * options_.seq_length;
    dataset.read_checked(begin, window, options_.vocab_size);
    append_window(dataset, begin, window, options_.reset_at_documents, batch);
  }
  return batch;
}

std::string Sampler::fingerprint() const {
  std::string text =
      fmt::format("{} {} {} {}", options_.seed, options_.seq_length, options_.vocab_size, options_.reset_at_documents);
  for (size_t i = 0; i < sources_.size(); ++i) {
    text += fmt::format(" {} {}", sources_[i].dataset->fingerprint(), mixture_.share(static_cast<int>(i)));
  }
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

void append_window(const TokenDataset& dataset, int64_t begin, const std::vector<int32_t>& window,
                   bool reset_at_documents, Batch& batch) {
  const size_t length = window.size() - 1;
  batch.tokens.insert(batch.tokens.end(), window.begin(), window.end() - 1);
  batch.targets.insert(batch.targets.end(), window.begin() + 1, window.end());
  batch.segment_start.resize(batch.segment_start.size() + length, 0);
  if (reset_at_documents) fill_segment_starts(dataset, begin, std::span(batch.segment_start).last(length));
  ++batch.samples;
  batch.target_tokens += static_cast<int64_t>(length);
}

void fill_segment_starts(const TokenDataset& dataset, int64_t begin, std::span<int32_t> out) {
  int64_t document = dataset.document_of(begin);
  const int64_t end = begin + static_cast<int64_t>(out.size());
  for (int64_t at = begin; at < end; ++document) {
    const int64_t stop = std::min(end, dataset.document_start(document + 1));
    if (stop <= at) continue;  // an empty document
    std::fill(out.begin() + (at - begin), out.begin() + (stop - begin), static_cast<int32_t>(at - begin));
    at = stop;
  }
}

}  // namespace cadre::data
