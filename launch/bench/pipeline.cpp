#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

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

// What the steps of one schedule took.
struct Measured {
  std::vector<double> makespans, busy;                             // of a step; busy: of the average rank
  std::map<std::pair<int, ActionKind>, std::vector<double>> took;  // by stage
};

// One step of a kind on this rank; the ranks share what they saw.
void measure_step(LocalRank& rank, Rng& rng, Measured& measured, std::mutex& mutex, std::vector<double>& of_rank) {
  const auto next = [&] { return random_batch(rng, 1, kSequence, 256); };
  rank.mesh().world().barrier({"bench"});
  rank.trainer().step(next, {});
  double busy = 0, end = 0;
  const std::lock_guard lock(mutex);
  for (const parallel::TimedAction& timed : rank.trainer().times()) {
    measured.took[{timed.action.stage, timed.action.kind}].push_back(timed.end - timed.start);
    busy += timed.end - timed.start;
    end = std::max(end, timed.end);
  }
  of_rank.push_back(end);
  if (of_rank.size() < kRanks) {
    measured.busy.push_back(busy / kRanks);
    return;
  }
  measured.busy.back() += busy / kRanks;
  measured.makespans.push_back(*std::max_element(of_rank.begin(), of_rank.end()));
  of_rank.clear();
}

// All kinds in turn, for about so long.
std::vector<Measured> measure_all(double seconds) {
  std::vector<Measured> measured(std::size(kKinds));
  std::vector<double> of_rank;
  std::mutex mutex;
  parallel::ThreadWorld(kRanks).run([&](parallel::Communicator& world) {
    std::vector<std::unique_ptr<LocalRank>> ranks;
    for (const ScheduleKind kind : kKinds) ranks.push_back(std::make_unique<LocalRank>(world, options_for(kind)));
    Rng rng(1, RngPurpose::kTest);
    Tensor spent = Tensor::zeros(ranks[0]->context().allocator, Dtype::kF64, Shape{1});
    for (int round = 0; *spent.data<double>() < seconds || round < 3; ++round) {
      *spent.data<double>() += seconds_of([&] {
        for (size_t i = 0; i < ranks.size(); ++i) {
          measure_step(*ranks[i], rng, measured[i], mutex, of_rank);
          world.barrier({"bench"});
        }
      });
      if (round == 0 && world.rank() == 0) measured.assign(std::size(kKinds), {});  // the first warms up
      world.broadcast(spent, 0, {"bench"})->wait();
    }
  });
  return measured;
}

double took(const Measured& measured, int stage, ActionKind kind) {
  const auto found = measured.took.find({stage, kind});
  return found == measured.took.end() ? 0 : median(found->second);
}

// What every action of a stage took; messages between threads cost a copy, which is not worth a line.
parallel::Costs costs_of(const Measured& measured, int stages) {
  parallel::Costs costs;
  for (int stage = 0; stage < stages; ++stage) {
    costs.stages.push_back({took(measured, stage, ActionKind::kForward), took(measured, stage, ActionKind::kBackward),
                            took(measured, stage, ActionKind::kBackwardInputs),
                            took(measured, stage, ActionKind::kBackwardWeights), 0, 0});
  }
  return costs;
}

nlohmann::json report(ScheduleKind kind, const Measured& measured, double of_1f1b, double predicted_1f1b,
                      const BenchOptions& options) {
  const parallel::ScheduleShape shape = shape_of(kind, kRanks);
  const parallel::Timeline timeline = simulate(make_schedule(shape), costs_of(measured, shape.stages()));
  const double step = median(measured.makespans), bubble = 1 - median(measured.busy) / step;
  const std::string name(config::enum_name(kind));
  if (options.print) {
    fmt::print("{:<13}{:>10.2f}{:>14.2f}{:>10.1f}%{:>11.1f}%{:>12.3f}{:>12.3f}\n", name, 1e3 * step,
               1e3 * timeline.makespan, 100 * bubble, 100 * timeline.bubble(), step / of_1f1b,
               timeline.makespan / predicted_1f1b);
  }
  return {{"schedule", name},
          {"step_seconds", step},
          {"bubble", bubble},
          {"predicted_seconds", timeline.makespan},
          {"of_1f1b", step / of_1f1b},
          {"predicted_bubble", timeline.bubble()},
          {"predicted_of_1f1b", timeline.makespan / predicted_1f1b}};
}

double predicted_step(const Measured& measured) {
  return simulate(parallel::make_schedule(shape_of(ScheduleKind::k1F1B, kRanks)), costs_of(measured, kRanks)).makespan;
}

// Stages of one layer that takes its share of what a stage of the two-rank pipeline took.
nlohmann::json deeper(const Measured& measured, int ranks, const BenchOptions& options) {
  const double share = static_cast<double>(kRanks) / ranks;
  const double forward = share * took(measured, 0, ActionKind::kForward);
  const double inputs = share * took(measured, 0, ActionKind::kBackwardInputs);
  const double weights = share * took(measured, 0, ActionKind::kBackwardWeights);
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
  const std::vector<Measured> measured = measure_all(options.seconds);
  if (options.print) {
    fmt::print("{} layers on {} ranks of one thread, {} micro-batches\n{:<13}{:>10}{:>14}{:>11}{:>12}{:>12}{:>12}\n",
               kLayers, kRanks, kMicroBatches, "schedule", "step ms", "predicted", "bubble", "predicted", "of 1f1b",
               "predicted");
  }
  const double of_1f1b = median(measured[1].makespans), predicted = predicted_step(measured[1]);
  nlohmann::json schedules = nlohmann::json::array(), virtual_time = nlohmann::json::array();
  for (size_t i = 0; i < std::size(kKinds); ++i) {
    schedules.push_back(report(kKinds[i], measured[i], of_1f1b, predicted, options));
  }
  for (const int ranks : {4, 8}) virtual_time.push_back(deeper(measured[3], ranks, options));
  return {{"case", "pipeline"}, {"schedules", std::move(schedules)}, {"virtual_time", std::move(virtual_time)}};
}

}  // namespace cadre::launch
