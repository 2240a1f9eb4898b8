#pragma once
// The arithmetic of reductions, in a fixed order of ranks.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "parallel/comm/communicator.h"

namespace cadre::parallel {

// out[i] = the sum (or maximum, minimum) of sources[...][i] in a binary tree over the sources, which stand in rank
// order: halves are aligned blocks of a power of two ranks, what is missing at the end is left out. Three: (0 + 1) + 2;
// six:
// ((0 + 1) + (2 + 3)) + (4 + 5). So the bits depend neither on where the reduction runs nor on how the buffer was cut,
// and the sum of an aligned block of ranks is a part of the sum of more. With `block` > 1 the tree is one over blocks
// of so many ranks, each a tree of its own. `out` may be one of the sources. `copy`, when not null, gets the same
// values. f32, f64, i64, i32; integers wrap around.
void reduce_in_order(Dtype dtype, Reduction reduction, const std::vector<const void*>& sources, int64_t elements,
                     void* out, void* copy = nullptr, size_t block = 1);

}  // namespace cadre::parallel
