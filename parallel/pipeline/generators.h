#pragma once
// The compute actions of each kind of schedule, without messages. Ranks p, chunks v, micro-batches m, rank r.

#include "parallel/pipeline/schedule.h"

namespace cadre::parallel {

// The shape must be one that make_schedule() accepts.
//
// gpipe        all forwards, then all backwards.
// 1f1b         p - 1 - r forwards ahead, then one forward and one backward in turn, then the backwards left.
// interleaved  the same over (chunk, micro-batch): groups of p micro-batches pass through all chunks of a rank, with
//              2 (p - 1 - r) + (v - 1) p forwards ahead (Megatron-LM). When p does not divide m, there are m / p groups
//              of p micro-batches or more, as even as possible, larger ones first; p in the formula is the first one's
//              size. With one chunk it is 1f1b.
// zero_bubble  1f1b with the backward in two parts; the weights of a micro-batch come r backwards late, and so fill the
//              end of the step, where 1f1b waits (Qi et al., section 2.3 and figure 3, ZB-H1).
ActionLists compute_actions(const ScheduleShape& shape);

// Sizes of the groups of micro-batches that pass through the chunks together; their sum is the micro-batches.
std::vector<int> interleaved_groups(const ScheduleShape& shape);

// Forwards before the first backward, that which is paired with it not counted.
int forwards_ahead(const ScheduleShape& shape, int rank);

}  // namespace cadre::parallel
