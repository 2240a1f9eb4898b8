#pragma once
// The arithmetic of reductions, in a fixed order of ranks.

#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "parallel/comm/communicator.h"

namespace cadre::parallel {

// out[i] = (((sources[0][i] + sources[1][i]) + sources[2][i]) + ...), and likewise for max and min: sources stand in
// rank order, so the bits depend neither on where the reduction runs nor on how the buffer was cut. `out` may be one of
// the sources. `copy`, when not null, gets the same values. f32, f64, i64, i32; integers wrap around.
void reduce_in_order(Dtype dtype, Reduction reduction, const std::vector<const void*>& sources, int64_t elements,
                     void* out, void* copy = nullptr);

}  // namespace cadre::parallel
