#include "parallel/pipeline/simulate.h"

#include <fmt/core.h>

#include <numeric>

#include "core/error.h"
#include "parallel/pipeline/execution.h"
#include "parallel/pipeline/memory.h"

namespace cadre::parallel {

Costs Costs::uniform(int stages, double forward, double inputs, double weights, double message) {
  const StageCosts stage{forward, inputs + weights, inputs, weights, message, message};
  return {std::vector<StageCosts>(static_cast<size_t>(stages), stage)};
}

double Costs::of(const Action& action) const {
  const auto micro_batch = static_cast<size_t>(action.micro_batch);
  const std::vector<StageCosts>& costs = micro_batch < early.size() ? early[micro_batch] : stages;
  const auto stage = [&](int index) -> const StageCosts& { return costs[static_cast<size_t>(index)]; };
  switch (action.kind) {
    case ActionKind::kForward: return stage(action.stage).forward;
    case ActionKind::kBackward: return stage(action.stage).backward;
    case ActionKind::kBackwardInputs: return stage(action.stage).backward_inputs;
    case ActionKind::kBackwardWeights: return stage(action.stage).backward_weights;
    case ActionKind::kSendActivation: return stage(action.stage).send_activation;
    case ActionKind::kReceiveActivation: return stage(action.stage - 1).send_activation;
    case ActionKind::kSendGradient: return stage(action.stage).send_gradient;
    case ActionKind::kReceiveGradient: return stage(action.stage + 1).send_gradient;
  }
  return 0;
}

double Timeline::bubble(int rank) const { return makespan > 0 ? 1 - busy[static_cast<size_t>(rank)] / makespan : 0; }

double Timeline::bubble() const {
  const double all = std::accumulate(busy.begin(), busy.end(), 0.0);
  return makespan > 0 ? 1 - all / (makespan * static_cast<double>(busy.size())) : 0;
}

Timeline simulate(const Schedule& schedule, const Costs& costs, Transport transport) {
  const auto wrong = [&](const std::vector<StageCosts>& of) {
    return static_cast<int>(of.size()) != schedule.shape.stages();
  };
  if (wrong(costs.stages) || std::any_of(costs.early.begin(), costs.early.end(), wrong)) {
    throw InternalError(fmt::format("pipeline simulation: costs of {} stages; wanted {}", costs.stages.size(),
                                    schedule.shape.stages()));
  }
  Execution execution(schedule, costs, transport);
  execution.run();
  const std::vector<std::string> stuck = execution.stuck();
  if (!stuck.empty()) {
    std::string ranks = stuck.front();
    for (size_t i = 1; i < stuck.size(); ++i) ranks += "; " + stuck[i];
    throw InternalError("pipeline schedule deadlocks: " + ranks);
  }
  Timeline timeline = execution.timeline();
  timeline.peak_activations = peak_activations(schedule);
  return timeline;
}

std::vector<std::string> deadlock(const Schedule& schedule, Transport transport) {
  const Costs costs = Costs::uniform(schedule.shape.stages(), 1, 1, 1);
  Execution execution(schedule, costs, transport);
  execution.run();
  return execution.stuck();
}

}  // namespace cadre::parallel
