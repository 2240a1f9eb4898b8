#pragma once
// Held-out loss.

#include <string>

#include "launch/inference/loaded_model.h"

namespace cadre::launch {

struct EvalResult {
  int64_t tokens = 0;  // scored, each exactly once
  double loss = 0;     // nats per token
  double perplexity = 0;
  uint64_t source_bytes = 0;  // of the text behind the tokens; 0 when unknown
  double bits_per_byte = 0;   // the model's own size is not counted; 0 when unknown
};

struct EvalOptions {
  int64_t batch_size = 8;  // windows at a time
  int64_t stride = 0;      // tokens that each window scores; 0: the sequence length
};

// Throws DataError when the token file is damaged or was made by another tokenizer.
EvalResult evaluate(Session& session, LoadedModel& loaded, const std::string& data, const EvalOptions& options);

}  // namespace cadre::launch
