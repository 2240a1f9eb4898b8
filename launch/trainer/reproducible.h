#pragma once
// Whether a layout's sums can have the bits of every other layout's.

#include "launch/settings.h"
#include "parallel/mesh/layout.h"

namespace cadre::launch {

// With parallel.reproducible: throws ConfigError naming the key that is in the way, with the nearest that is not.
// `micro_batches`: of a rank and step.
void check_reproducible(const ParallelSettings& parallel, const parallel::Layout& layout, int64_t experts,
                        int64_t micro_batches);

}  // namespace cadre::launch
