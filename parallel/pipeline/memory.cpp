#include "parallel/pipeline/memory.h"

#include <algorithm>

#include "parallel/pipeline/generators.h"
#include "parallel/pipeline/messages.h"

namespace cadre::parallel {
namespace {

double change(const Action& action, const StageMemory& memory) {
  switch (action.kind) {
    case ActionKind::kForward: return memory.activations;
    case ActionKind::kBackward: return -memory.activations;
    case ActionKind::kBackwardInputs: return memory.deferred - memory.activations;
    case ActionKind::kBackwardWeights: return -memory.deferred;
    default: return 0;
  }
}

}  // namespace

std::vector<double> peak_bytes(const Schedule& schedule, const std::vector<StageMemory>& stages) {
  std::vector<double> peaks;
  for (const std::vector<Action>& actions : schedule.ranks) {
    double held = 0, peak = 0;
    for (const Action& action : actions) {
      held += change(action, stages[static_cast<size_t>(action.stage)]);
      peak = std::max(peak, held);
    }
    peaks.push_back(peak);
  }
  return peaks;
}

std::vector<int> peak_activations(const Schedule& schedule) {
  const std::vector<StageMemory> ones(static_cast<size_t>(schedule.shape.stages()));
  const std::vector<double> peaks = peak_bytes(schedule, ones);
  return {peaks.begin(), peaks.end()};
}

std::vector<int> peak_receives(const Schedule& schedule) {
  std::vector<int> peaks;
  for (const std::vector<Action>& actions : schedule.ranks) {
    int posted = 0, peak = 0;
    for (const Action& action : actions) {
      if (is_receive(action.kind)) peak = std::max(peak, ++posted);
      if (is_compute(action.kind) && receive_before(schedule.shape, action)) --posted;
    }
    peaks.push_back(peak);
  }
  return peaks;
}

int activation_bound(const ScheduleShape& shape, int rank) {
  const int all = shape.chunks * shape.micro_batches;
  if (shape.kind == ScheduleKind::kZeroBubble) return std::min(all, shape.ranks);
  return std::min(all, forwards_ahead(shape, rank) + 1);
}

}  // namespace cadre::parallel
