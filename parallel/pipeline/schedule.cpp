#include "parallel/pipeline/schedule.h"

#include <fmt/core.h>

#include "core/error.h"
#include "parallel/pipeline/generators.h"
#include "parallel/pipeline/messages.h"

namespace cadre::parallel {
namespace {

const char* name_of(ActionKind kind) {
  switch (kind) {
    case ActionKind::kForward: return "forward";
    case ActionKind::kBackward: return "backward";
    case ActionKind::kBackwardInputs: return "backward (inputs)";
    case ActionKind::kBackwardWeights: return "backward (weights)";
    case ActionKind::kSendActivation: return "send of the activation";
    case ActionKind::kReceiveActivation: return "receive of the activation";
    case ActionKind::kSendGradient: return "send of the gradient";
    case ActionKind::kReceiveGradient: return "receive of the gradient";
  }
  return "?";
}

void check(const ScheduleShape& shape) {
  if (shape.ranks < 1 || shape.chunks < 1 || shape.micro_batches < 1) {
    throw ConfigError(
        fmt::format("pipeline schedule: {} ranks, {} stages on a rank, {} micro-batches; wanted 1 or more", shape.ranks,
                    shape.chunks, shape.micro_batches));
  }
  if (shape.chunks > 1 && shape.kind != ScheduleKind::kInterleaved) {
    throw ConfigError(fmt::format("pipeline schedule {}: {} stages on a rank; wanted 1, or schedule interleaved",
                                  config::enum_name(shape.kind), shape.chunks));
  }
}

}  // namespace

bool is_compute(ActionKind kind) { return kind <= ActionKind::kBackwardWeights; }
bool is_send(ActionKind kind) { return kind == ActionKind::kSendActivation || kind == ActionKind::kSendGradient; }
bool is_receive(ActionKind kind) { return !is_compute(kind) && !is_send(kind); }

std::string describe(const Action& action) {
  return fmt::format("{} of micro-batch {}, stage {}", name_of(action.kind), action.micro_batch, action.stage);
}

Schedule make_schedule(const ScheduleShape& shape) {
  check(shape);
  return with_messages({shape, compute_actions(shape)});
}

Schedule forward_only(ScheduleShape shape) {
  shape.kind = shape.chunks > 1 ? ScheduleKind::kInterleaved : ScheduleKind::kGPipe;
  Schedule schedule = make_schedule(shape);
  for (std::vector<Action>& actions : schedule.ranks) {
    std::erase_if(actions, [](const Action& action) {
      using enum ActionKind;
      return action.kind != kForward && action.kind != kSendActivation && action.kind != kReceiveActivation;
    });
  }
  return schedule;
}

}  // namespace cadre::parallel
