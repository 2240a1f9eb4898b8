#pragma once
// Tokens for measurements.

#include <cstddef>
#include <cstdint>

#include "core/rng.h"
#include "data/batch.h"

namespace cadre::launch {

// Uniform tokens and targets below `vocabulary`; one document.
data::Batch random_batch(Rng& rng, int64_t samples, int64_t seq_length, int64_t vocabulary);

}  // namespace cadre::launch
