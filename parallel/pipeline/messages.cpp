#include "parallel/pipeline/messages.h"

#include <algorithm>
#include <tuple>

#include "parallel/pipeline/simulate.h"

namespace cadre::parallel {
namespace {

using enum ActionKind;

bool leaves_rank(const ScheduleShape& shape, int stage, int neighbour) {
  return neighbour >= 0 && neighbour < shape.stages() && shape.rank_of(stage) != shape.rank_of(neighbour);
}

}  // namespace

std::optional<Action> send_after(const ScheduleShape& shape, const Action& compute) {
  if (compute.kind == kBackwardWeights) return std::nullopt;
  const bool forward = compute.kind == kForward;
  if (!leaves_rank(shape, compute.stage, compute.stage + (forward ? 1 : -1))) return std::nullopt;
  return Action{forward ? kSendActivation : kSendGradient, compute.stage, compute.micro_batch};
}

std::optional<Action> receive_before(const ScheduleShape& shape, const Action& compute) {
  if (compute.kind == kBackwardWeights) return std::nullopt;
  const bool forward = compute.kind == kForward;
  if (!leaves_rank(shape, compute.stage, compute.stage + (forward ? -1 : 1))) return std::nullopt;
  return Action{forward ? kReceiveActivation : kReceiveGradient, compute.stage, compute.micro_batch};
}

Action other_end(const Action& message) {
  switch (message.kind) {
    case kSendActivation: return {kReceiveActivation, message.stage + 1, message.micro_batch};
    case kReceiveActivation: return {kSendActivation, message.stage - 1, message.micro_batch};
    case kSendGradient: return {kReceiveGradient, message.stage - 1, message.micro_batch};
    default: return {kSendGradient, message.stage + 1, message.micro_batch};
  }
}

Schedule with_messages(const Schedule& compute) {
  const ScheduleShape& shape = compute.shape;
  const Timeline timeline = simulate(compute, Costs::uniform(shape.stages(), 1, 1, 1), Transport::kDirect);
  struct Event {
    double start, end;
    int rank, distance;
    Action action;
  };
  std::vector<Event> events;
  for (int rank = 0; rank < shape.ranks; ++rank) {
    for (const TimedAction& timed : timeline.ranks[static_cast<size_t>(rank)]) {
      const int stage = timed.action.stage;
      events.push_back({timed.start, timed.end, rank, timed.action.kind == kForward ? stage : -stage, timed.action});
    }
  }
  // Durations are positive, so order of start respects dependencies. Among equals the shorter one first, whose data is
  // ready while the other rank still computes; then the one nearer to the source of the data.
  std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    return std::tie(a.start, a.end, a.distance) < std::tie(b.start, b.end, b.distance);
  });
  Schedule result{shape, ActionLists(static_cast<size_t>(shape.ranks))};
  for (const Event& event : events) {
    result.ranks[static_cast<size_t>(event.rank)].push_back(event.action);
    const std::optional<Action> send = send_after(shape, event.action);
    if (!send) continue;
    const Action receive = other_end(*send);
    result.ranks[static_cast<size_t>(event.rank)].push_back(*send);
    result.ranks[static_cast<size_t>(shape.rank_of(receive.stage))].push_back(receive);
  }
  return result;
}

}  // namespace cadre::parallel
