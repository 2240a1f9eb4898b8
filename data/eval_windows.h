#pragma once
// A held-out token file as windows in which every token is a scored target exactly once, the very first one included:
// it is predicted from a context token in front of the stream (the end-of-document token, or id 0 where there is none).
// So a sum of losses covers every byte of the held-out text.
//
// With stride < seq_length, windows overlap: each position but those of the first window has at least
// seq_length - stride tokens of context, for seq_length / stride times the work.

#include <cstdint>
#include <memory>

#include "data/batch.h"
#include "data/indexed/token_dataset.h"

namespace cadre::data {

class EvalWindows {
 public:
  struct Options {
    int seq_length = 256;
    int stride = 0;  // tokens that each window after the first scores; 0: seq_length
    int32_t vocab_size = 0;
    int32_t context_token = 0;  // in front of the stream
    bool reset_at_documents = false;
  };

  // Throws ConfigError for a stride outside [0, seq_length].
  EvalWindows(std::shared_ptr<const TokenDataset> dataset, Options options);

  int64_t count() const;                                 // windows
  int64_t tokens() const { return dataset_->tokens(); }  // scored over all windows
  // Windows [first, first + count), clipped to those there are. Targets scored elsewhere, and the padding after the end
  // of the stream (token 0), are kIgnoredTarget. Throws DataError that names file and position.
  Batch load(int64_t first, int64_t count) const;
  // Adds one window to a batch of the same sequence length.
  void append(int64_t window, Batch& batch) const;

 private:
  std::shared_ptr<const TokenDataset> dataset_;
  Options options_;
};

}  // namespace cadre::data
