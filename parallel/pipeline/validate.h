#pragma once
// Whether a schedule is right, whoever made it.

#include <string>
#include <vector>

#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/simulate.h"

namespace cadre::parallel {

// What is wrong, one line each, naming rank and action; empty when nothing is. Checked:
//   complete      every (stage, micro-batch) has, on the stage's rank, one forward and one backward: whole, or in two
//                 parts; nothing else is there
//   dependencies  forward before backward, inputs before weights; no circle among ranks; parameter gradients of a
//                 stage in ascending micro-batches
//   messages      every message that the compute actions imply is there once, sent after its producer, received before
//                 its use, and none else; between two ranks, sends and receives are in the same order
//   deadlock      it runs to its end with this transport: kRendezvous, which make_schedule() promises, implies all
//   memory        no rank holds more activations than activation_bound() (memory.h) says
// Dependencies and what follows are checked only when the actions are in range.
std::vector<std::string> problems(const Schedule& schedule, Transport transport = Transport::kRendezvous);

// Throws InternalError with the first of the problems and their number.
void require_valid(const Schedule& schedule, Transport transport = Transport::kRendezvous);

}  // namespace cadre::parallel
