#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <tuple>

#include "launch/bench/bench.h"
#include "launch/bench/random_batch.h"
#include "launch/bench/timing.h"
#include "launch/trainer/local_rank.h"
#include "launch/trainer/stages.h"
#include "parallel/comm/thread.h"

namespace cadre::launch {
namespace {

using parallel::Action;
using parallel::ActionKind;
using parallel::ScheduleKind;

constexpr int kRanks = 2, kMicroBatches = 8;
constexpr int64_t kLayers = 8, kSequence = 256;
constexpr ScheduleKind kKinds[] = {ScheduleKind::kGPipe, ScheduleKind::k1F1B, ScheduleKind::kInterleaved,
                                   ScheduleKind::kZeroBubble};

parallel::ScheduleShape shape_of(ScheduleKind kind, int ranks) {
  return {kind, ranks, kind == ScheduleKind::kInterleaved ? 2 : 1, kMicroBatches};
}

LocalRankOptions options_for(ScheduleKind kind) {
  LocalRankOptions options;
  options.layout.pipeline = kRanks;
  options.training.network.model.num_layers = kLayers;
  options.training.network.model.vocab_size = 256;
  options.training.network.moe.num_experts = 8;
  options.training.network.moe.ffn_hidden_size = 512;
  options.training.trainer.total_steps = 100000;
  options.training.trainer.schedule = shape_of(kind, kRanks);
  options.training.trainer.step.micro_batches = kMicroBatches;
  options.training.trainer.step.global_target_tokens = kMicroBatches * kSequence;
  ParallelSettings parallel;
  parallel.pipeline_parallel = kRanks;
  parallel.stages_per_rank = options.training.trainer.schedule.chunks;
  options.training.shard.layers_per_stage = decide_stages(parallel, counted_costs(options.training.network, kSequence));
  return options;
}

// One step, on all ranks.
struct Step {
  // By stage and micro-batch: the first ones pack weights, and all of them vary.
  std::map<std::tuple<int, int, ActionKind>, double> took;
  double makespan = 0, busy = 0;  // busy: of the average rank
  int ranks = 0;                  // that have told

  double bubble() const { return 1 - busy / makespan; }
};
using Steps = std::vector<Step>;

// One step of a kind on this rank; the ranks tell what they saw.
void measure_step(LocalRank& rank, Rng& rng, Steps& steps, std::mutex& mutex) {
  const auto next = [&] { return random_batch(rng, 1, kSequence, 256); };
  rank.mesh().world().barrier({"bench"});
  rank.trainer().step(next, {});
  const std::lock_guard lock(mutex);
  if (steps.empty() || steps.back().ranks == kRanks) steps.emplace_back();
  Step& step = steps.back();
  ++step.ranks;
  for (const parallel::TimedAction& timed : rank.trainer().times()) {
    const double seconds = timed.end - timed.start;
    step.took[{timed.action.stage, timed.action.micro_batch, timed.action.kind}] = seconds;
    step.busy += seconds / kRanks;
    step.makespan = std::max(step.makespan, timed.end);
  }
}

// All kinds in turn, for about so long.
std::vector<Steps> measure_all(double seconds) {
  std::vector<Steps> measured(std::size(kKinds));
  std::mutex mutex;
  parallel::ThreadWorld(kRanks).run([&](parallel::Communicator& world) {
    std::vector<std::unique_ptr<LocalRank>> ranks;
    for (const ScheduleKind kind : kKinds) ranks.push_back(std::make_unique<LocalRank>(world, options_for(kind)));
    Rng rng(1, RngPurpose::kTest);
    Tensor spent = Tensor::zeros(ranks[0]->context().allocator, Dtype::kF64, Shape{1});
    for (int round = 0; *spent.data<double>() < seconds || round < 3; ++round) {
      *spent.data<double>() += seconds_of([&] {
        for (size_t i = 0; i < ranks.size(); ++i) {
          measure_step(*ranks[i], rng, measured[i], mutex);
          world.barrier({"bench"});
        }
      });
      if (round == 0 && world.rank() == 0) measured.assign(std::size(kKinds), {});  // the first warms up
      world.broadcast(spent, 0, {"bench"})->wait();
    }
  });
  return measured;
}

// Messages between threads cost a copy, which is not worth a line.
parallel::Costs costs_of(const Step& step, int stages) {
  parallel::Costs costs;
  for (int micro_batch = 0; micro_batch < kMicroBatches; ++micro_batch) {
    std::vector<parallel::StageCosts>& all = costs.early.emplace_back();
    for (int stage = 0; stage < stages; ++stage) {
      const auto seconds = [&](ActionKind kind) {
        const auto found = step.took.find({stage, micro_batch, kind});
        return found == step.took.end() ? 0 : found->second;
      };
      all.push_back({seconds(ActionKind::kForward), seconds(ActionKind::kBackward),
                     seconds(ActionKind::kBackwardInputs), seconds(ActionKind::kBackwardWeights), 0, 0});
    }
  }
  costs.stages = costs.early.back();
  return costs;
}

double median_of(const Steps& steps, const std::function<double(const Step&)>& value) {
  std::vector<double> values;
  for (const Step& step : steps) values.push_back(value(step));
  return median(std::move(values));
}

// Every action takes its median.
Step typical(const Steps& steps) {
  Step typical;
  for (const auto& [action, seconds] : steps.front().took) {
    typical.took[action] = median_of(steps, [&](const Step& step) { return step.took.at(action); });
  }
  return typical;
}

parallel::Timeline predicted(ScheduleKind kind, const Step& step) {
  const parallel::ScheduleShape shape = shape_of(kind, kRanks);
  return simulate(parallel::make_schedule(shape), costs_of(step, shape.stages()));
}

// The time is predicted from what each action typically takes; the bubble from what the actions of that very step took,
// so that what is left is the interpreter's and the messages'.
nlohmann::json report(ScheduleKind kind, const Steps& steps, double of_1f1b, double predicted_1f1b,
                      const BenchOptions& options) {
  const double step = median_of(steps, [](const Step& s) { return s.makespan; });
  const double bubble = median_of(steps, [](const Step& s) { return s.bubble(); });
  const double predicted_step = predicted(kind, typical(steps)).makespan;
  const double predicted_bubble = median_of(steps, [&](const Step& s) { return predicted(kind, s).bubble(); });
  const std::string name(config::enum_name(kind));
  if (options.print) {
    fmt::print("{:<13}{:>10.2f}{:>14.2f}{:>10.1f}%{:>11.1f}%{:>12.3f}{:>12.3f}\n", name, 1e3 * step,
               1e3 * predicted_step, 100 * bubble, 100 * predicted_bubble, step / of_1f1b,
               predicted_step / predicted_1f1b);
  }
  return {{"schedule", name},
          {"step_seconds", step},
          {"bubble", bubble},
          {"predicted_seconds", predicted_step},
          {"of_1f1b", step / of_1f1b},
          {"predicted_bubble", predicted_bubble},
          {"predicted_of_1f1b", predicted_step / predicted_1f1b}};
}

// Stages of one layer that takes its share of what a stage of the two-rank pipeline took.
nlohmann::json deeper(const Step& step, int ranks, const BenchOptions& options) {
  const double share = static_cast<double>(kRanks) / ranks;
  const auto seconds = [&](ActionKind kind) { return share * step.took.at({0, kMicroBatches / 2, kind}); };
  const double forward = seconds(ActionKind::kForward);
  const double inputs = seconds(ActionKind::kBackwardInputs), weights = seconds(ActionKind::kBackwardWeights);
  nlohmann::json result{{"ranks", ranks}};
  if (options.print) fmt::print("{:>2} ranks, bubble in virtual time:", ranks);
  for (const ScheduleKind kind : kKinds) {
    parallel::ScheduleShape shape = shape_of(kind, ranks);
    shape.micro_batches = 4 * ranks;
    const double part = 1.0 / shape.chunks;
    const auto costs = parallel::Costs::uniform(shape.stages(), part * forward, part * inputs, part * weights);
    const double bubble = simulate(make_schedule(shape), costs).bubble();
    const std::string name(config::enum_name(kind));
    if (options.print) fmt::print("  {} {:.1f}%", name, 100 * bubble);
    result[name + "_bubble"] = bubble;
  }
  if (options.print) fmt::print("\n");
  return result;
}

}  // namespace

nlohmann::json bench_pipeline(Session&, const BenchOptions& options) {
  const std::vector<Steps> measured = measure_all(options.seconds);
  if (options.print) {
    fmt::print("{} layers on {} ranks of one thread, {} micro-batches\n{:<13}{:>10}{:>14}{:>11}{:>12}{:>12}{:>12}\n",
               kLayers, kRanks, kMicroBatches, "schedule", "step ms", "predicted", "bubble", "predicted", "of 1f1b",
               "predicted");
  }
  const double of_1f1b = median_of(measured[1], [](const Step& step) { return step.makespan; });
  const double predicted_1f1b = predicted(ScheduleKind::k1F1B, typical(measured[1])).makespan;
  nlohmann::json schedules = nlohmann::json::array(), virtual_time = nlohmann::json::array();
  for (size_t i = 0; i < std::size(kKinds); ++i) {
    schedules.push_back(report(kKinds[i], measured[i], of_1f1b, predicted_1f1b, options));
  }
  for (const int ranks : {4, 8}) virtual_time.push_back(deeper(typical(measured[3]), ranks, options));
  return {{"case", "pipeline"}, {"schedules", std::move(schedules)}, {"virtual_time", std::move(virtual_time)}};
}

}  // namespace cadre::launch
