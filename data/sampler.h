#pragma once
// Training samples by global index. Sample i is a pure function of (seed, i, the token files): it depends neither on
// ranks nor on what was drawn before, so a run resumes exactly by its sample count alone.
//
// A source's documents are packed into one stream, cut into windows of seq_length + 1 tokens that share their end
// tokens (window k begins at k * seq_length). Each epoch of a source visits each of its windows exactly once, in an
// order of its own. Tokens after the last whole window, fewer than seq_length + 1, are not used.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/indexed/token_dataset.h"
#include "data/mixture.h"

namespace cadre::data {

class Sampler {
 public:
  struct Source {
    std::shared_ptr<const TokenDataset> dataset;
    double weight = 1;
  };
  struct Options {
    uint64_t seed = 1;
    int seq_length = 256;
    int32_t vocab_size = 0;  // tokens at or above it are errors
    bool reset_at_documents = false;
  };

  // Throws DataError when a source holds no whole window.
  Sampler(std::vector<Source> sources, Options options);

  // Where a sample lies.
  struct Place {
    int source;
    int64_t epoch;   // of that source
    int64_t window;  // in [0, windows(source))
  };
  Place place(int64_t sample) const;
  int64_t windows(int source) const;  // samples of an epoch
  const Options& options() const { return options_; }

  // Samples [first, first + count). Safe to call from several threads. Throws DataError that names file and position.
  Batch load(int64_t first, int64_t count) const;

  // Of all sources, weights and options: equal on ranks that will load the same samples.
  std::string fingerprint() const;

 private:
  std::vector<Source> sources_;
  Options options_;
  Mixture mixture_;
};

// Appends a sample to a batch: `window` is the seq_length + 1 tokens from `begin` of `dataset`.
void append_window(const TokenDataset& dataset, int64_t begin, const std::vector<int32_t>& window,
                   bool reset_at_documents, Batch& batch);

// The segment starts of `count` positions from token `begin` of the dataset, written to `out`.
void fill_segment_starts(const TokenDataset& dataset, int64_t begin, std::span<int32_t> out);

}  // namespace cadre::data
