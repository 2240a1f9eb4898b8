#pragma once
// What a schedule holds in memory: a matter of the order of actions, not of time.
//
// The activations of a (stage, micro-batch) are held from its forward until its backward is complete: with the
// backward in two parts, until the weights' part.

#include <vector>

#include "parallel/pipeline/schedule.h"

namespace cadre::parallel {

struct StageMemory {
  double activations = 1;  // bytes of one micro-batch, from forward to backward
  double deferred = 1;     // what of them is left between the two parts of the backward
};

// The most that each rank holds at once, in (stage, micro-batch) pairs, or in bytes for costs [stage].
std::vector<int> peak_activations(const Schedule& schedule);
std::vector<double> peak_bytes(const Schedule& schedule, const std::vector<StageMemory>& stages);

// The most receive buffers of a rank that are posted and not yet read by their compute action.
std::vector<int> peak_receives(const Schedule& schedule);

// What the kind promises for peak_activations(), with m micro-batches, p ranks, v chunks, rank r:
//   gpipe        m
//   1f1b         min(m, p - r)
//   interleaved  min(v m, 2 (p - 1 - r) + (v - 1) g + 1), g the largest group: p when p divides m (generators.h). A
//                pair is 1 / v of the rank's layers.
//   zero_bubble  min(m, p): on no rank more than 1f1b has on its fullest. What waits for its inputs' part is at most
//                1f1b's min(m, p - r); the rest is deferred.
int activation_bound(const ScheduleShape& shape, int rank);

}  // namespace cadre::parallel
