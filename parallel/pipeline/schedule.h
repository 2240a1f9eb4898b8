#pragma once
// A pipeline schedule is data: for every pipeline rank an ordered list of actions, which one interpreter carries out,
// problems() checks (validate.h), simulate() times (simulate.h) and draw() shows (draw.h).
//
// The model is cut into ranks x chunks stages; stage s lives on rank s % ranks as its chunk s / ranks. "Rank" here is a
// coordinate of the pipeline axis. Neighbouring stages of one rank (a pipeline of one rank) hand over without messages.

#include <string>
#include <vector>

#include "parallel/pipeline/schedule_kind.h"

namespace cadre::parallel {

enum class ActionKind {
  kForward,
  kBackward,           // both parts
  kBackwardInputs,     // the gradient of the stage's input; of everything on the way, but not of parameters
  kBackwardWeights,    // the parameters' gradients; after kBackwardInputs
  kSendActivation,     // the stage's output to the next stage
  kReceiveActivation,  // the stage's input from the previous stage
  kSendGradient,       // the gradient of the stage's input to the previous stage
  kReceiveGradient,    // the gradient of the stage's output from the next stage
};

bool is_compute(ActionKind kind);
bool is_send(ActionKind kind);
bool is_receive(ActionKind kind);

struct Action {
  ActionKind kind = ActionKind::kForward;
  int stage = 0;  // that the rank itself holds, for messages too
  int micro_batch = 0;
  bool operator==(const Action&) const = default;
};
std::string describe(const Action& action);  // "forward of micro-batch 5, stage 2"

struct ScheduleShape {
  ScheduleKind kind = ScheduleKind::k1F1B;
  int ranks = 1;
  int chunks = 1;  // stages on a rank; more than one only with kInterleaved
  int micro_batches = 1;

  int stages() const { return ranks * chunks; }
  int rank_of(int stage) const { return stage % ranks; }
  int chunk_of(int stage) const { return stage / ranks; }
  int stage_at(int rank, int chunk) const { return chunk * ranks + rank; }
  bool operator==(const ScheduleShape&) const = default;
};

using ActionLists = std::vector<std::vector<Action>>;  // [rank]

struct Schedule {
  ScheduleShape shape;
  ActionLists ranks;
};

// The schedule with its messages (messages.h), such that problems() finds nothing, for any ranks, chunks and
// micro-batches >= 1. Every stage runs its parameter gradients in ascending micro-batches, whatever the kind, so that
// the kind does not change the bits of their sums. Throws ConfigError when a number is below 1 or the kind has no
// chunks.
Schedule make_schedule(const ScheduleShape& shape);

// Its forwards alone, with their messages: how a pipeline evaluates.
Schedule forward_only(ScheduleShape shape);

}  // namespace cadre::parallel
