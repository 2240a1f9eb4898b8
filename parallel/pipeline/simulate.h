#pragma once
// A schedule in virtual time: what a step takes when every action takes what it is said to take.

#include <vector>

#include "parallel/pipeline/schedule.h"

namespace cadre::parallel {

// Seconds (or any unit) of one micro-batch on one stage.
struct StageCosts {
  double forward = 0;
  double backward = 0;  // both parts in one action
  double backward_inputs = 0;
  double backward_weights = 0;
  double send_activation = 0;  // the message to the next stage
  double send_gradient = 0;    // the message to the previous stage
};

struct Costs {
  std::vector<StageCosts> stages;
  // [micro-batch][stage]: the first micro-batches, where they differ, as those that pack weights do.
  std::vector<std::vector<StageCosts>> early{};

  // The same for all stages and messages; the whole backward takes the sum of its parts.
  static Costs uniform(int stages, double forward, double inputs, double weights, double message = 0);
  // Of a compute action, or of a message by either of its ends.
  double of(const Action& action) const;
};

// How messages behave. A message takes its time once it can start, and those between the same two ranks in the same
// direction follow one another. Messages of different ranks, and computation, do not slow each other down.
enum class Transport {
  kDirect,       // message actions are ignored: data is there its message's time after its producer ended
  kNonblocking,  // starts when sent and posted; nobody waits but the action that needs the data: Cadre's interpreter
  kBuffered,     // starts when sent; a receive waits for the data
  kRendezvous,   // starts when sent and posted; both ends wait until it is over: no buffer anywhere
};

struct TimedAction {
  Action action;
  double start = 0;  // of a message: when the rank came to it
  double end = 0;    // of a message: when the data was there; kDirect lists no messages
};

struct Timeline {
  std::vector<std::vector<TimedAction>> ranks;  // in the schedule's order
  double makespan = 0;                          // from 0 to the last end
  std::vector<double> busy;                     // [rank] time in compute actions
  std::vector<int> peak_activations;            // [rank], as memory.h counts

  // Share of the makespan in which the rank, or the average rank, does not compute. With equal stages, p ranks,
  // m micro-batches, v chunks, and forward F, inputs I, weights W of a rank's whole share of the model:
  //   gpipe, 1f1b  (p - 1) / (m + p - 1)
  //   interleaved  (p - 1) / (v m + p - 1)                       when m >= p
  //   zero_bubble  idle (p - 1) max(F, I, F + I - W), so (p - 1) / (3 m + p - 1) for F = I = W       when m >= p
  // (Narayanan et al., SC 2021, section 2.2, who divide by the ideal time instead; Qi et al., table 2, where W is the
  // smaller one.)
  double bubble(int rank) const;
  double bubble() const;
};

// Throws InternalError naming where each rank is stuck when the schedule deadlocks, or the number of costs is wrong.
// Actions must be in range (problems() tells).
Timeline simulate(const Schedule& schedule, const Costs& costs, Transport transport = Transport::kNonblocking);

// Where each rank is stuck, one line a rank; empty when the schedule runs to its end. What runs with kRendezvous runs
// with every transport.
std::vector<std::string> deadlock(const Schedule& schedule, Transport transport);

}  // namespace cadre::parallel
