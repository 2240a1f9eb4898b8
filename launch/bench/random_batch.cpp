#include "launch/bench/random_batch.h"

namespace cadre::launch {

data::Batch random_batch(Rng& rng, int64_t samples, int64_t seq_length, int64_t vocabulary) {
  data::Batch batch;
  batch.samples = samples;
  batch.seq_length = seq_length;
  const auto count = static_cast<size_t>(samples * seq_length);
  for (size_t i = 0; i < count; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocabulary))));
    batch.targets.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocabulary))));
  }
  batch.segment_start.assign(count, 0);
  batch.target_tokens = static_cast<int64_t>(count);
  return batch;
}

}  // namespace cadre::launch
