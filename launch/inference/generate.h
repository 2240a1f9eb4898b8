#pragma once
// Sampling from a model, with a KV cache.

#include <functional>
#include <string>
#include <vector>

#include "core/rng.h"
#include "launch/inference/loaded_model.h"

namespace cadre::launch {

struct SamplingOptions {
  double temperature = 0.8;  // 0: always the likeliest
  int64_t top_k = 0;         // among the k likeliest; 0: all
  double top_p = 1.0;        // among the likeliest whose probabilities reach this sum (nucleus; Holtzman et al., 2020)
  uint64_t seed = 1;
};

// One id from logits [vocabulary] (f32 or f64). Ties go to the lower id.
int32_t sample_token(TensorView logits, const SamplingOptions& options, Rng& rng);

// Continues `prompt` by `tokens` tokens; `on_text` gets the text as it comes. An end-of-document token ends it early.
// Beyond the training's sequence length, the window slides: the last half of it is kept and computed anew.
void generate(Session& session, LoadedModel& loaded, const std::string& prompt, int64_t tokens,
              const SamplingOptions& options, const std::function<void(std::string_view)>& on_text);

}  // namespace cadre::launch
