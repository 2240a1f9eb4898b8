#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "launch/bench/bench.h"
#include "launch/bench/random_batch.h"
#include "launch/bench/timing.h"
#include "launch/trainer/local_rank.h"
#include "parallel/comm/thread.h"
#include "parallel/expert/balance.h"

namespace cadre::launch {
namespace {

constexpr int kRanks = 2;
constexpr int64_t kExperts = 16, kTopK = 1, kSamples = 4, kSequence = 256, kTokens = kSamples * kSequence;

// Half of all tokens to expert 0, the rest, or all, spread over the others in turn.
model::RoutingTrace trace_of(const autograd::Context& context, int64_t layers, bool skewed) {
  std::vector<int32_t> ids;
  for (int64_t token = 0; token < kTokens; ++token) {
    const bool hot = skewed && token % 2 == 0;
    const int64_t other = skewed ? 1 + token / 2 % (kExperts - 1) : token % kExperts;
    ids.push_back(static_cast<int32_t>(hot ? 0 : other));
  }
  const Tensor trace = to_tensor(context, ids).reshape(Shape{kTokens, kTopK});
  return model::RoutingTrace(static_cast<size_t>(layers), trace);
}

parallel::ExpertLoads skewed_loads() {
  parallel::ExpertLoads loads(kExperts, 0.5 / (kExperts - 1));
  loads[0] = 0.5;
  return loads;
}

struct SkewCase {
  const char* name;
  bool skewed;
  parallel::Placement placement;
};

std::vector<SkewCase> cases() {
  const auto even = parallel::Placement::even(kExperts, kRanks);
  return {{"even routing", false, even},
          {"half to one expert", true, even},
          {"with a copy of it", true, parallel::balanced_placement(skewed_loads(), kRanks, 1)}};
}

// A rank with its routing.
struct SkewRank {
  model::RoutingTrace trace;
  std::unique_ptr<LocalRank> rank;
};

std::unique_ptr<SkewRank> make_rank(parallel::Communicator& world, const SkewCase& skew) {
  auto made = std::make_unique<SkewRank>();
  LocalRankOptions options;
  options.layout = {.data = kRanks, .pipeline = 1, .expert = kRanks};
  TrainingOptions& training = options.training;
  training.network.model.num_layers = 2;
  training.network.model.hidden_size = 256;
  training.network.model.vocab_size = 256;
  training.network.moe.num_experts = kExperts;
  training.network.moe.top_k = kTopK;
  training.network.moe.ffn_hidden_size = 1024;
  training.shard.placements = {skew.placement};
  training.trainer.total_steps = 100000;
  training.trainer.step.global_target_tokens = kRanks * kTokens;
  training.trainer.step.routing.replay = [trace = &made->trace](int64_t) { return trace; };
  made->rank = std::make_unique<LocalRank>(world, options);
  made->trace = trace_of(made->rank->context(), training.network.model.num_layers, skew.skewed);
  return made;
}

// Median seconds of a step of each case, in alternation.
std::vector<double> measure(double seconds) {
  std::vector<std::vector<double>> took(cases().size());
  parallel::ThreadWorld(kRanks).run([&](parallel::Communicator& world) {
    std::vector<std::unique_ptr<SkewRank>> ranks;
    for (const SkewCase& skew : cases()) ranks.push_back(make_rank(world, skew));
    Rng rng(1, RngPurpose::kTest);
    Tensor spent = Tensor::zeros(ranks[0]->rank->context().allocator, Dtype::kF64, Shape{1});
    for (int round = 0; *spent.data<double>() < seconds || round < 3; ++round) {
      for (size_t i = 0; i < ranks.size(); ++i) {
        world.barrier({"bench"});
        const double step = seconds_of(
            [&] { ranks[i]->rank->trainer().step([&] { return random_batch(rng, kSamples, kSequence, 256); }, {}); });
        *spent.data<double>() += step;
        if (world.rank() == 0 && round > 0) took[i].push_back(step);  // the first warms up
      }
      world.broadcast(spent, 0, {"bench"})->wait();
    }
  });
  std::vector<double> medians;
  for (const std::vector<double>& steps : took) medians.push_back(median(steps));
  return medians;
}

}  // namespace

nlohmann::json bench_skew(Session&, const BenchOptions& options) {
  const std::vector<double> seconds = measure(options.seconds);
  const double won_back = (seconds[1] - seconds[2]) / (seconds[1] - seconds[0]);
  nlohmann::json result{{"case", "skew"}, {"won_back", won_back}};
  const std::vector<SkewCase> all = cases();
  const char* const keys[] = {"even_seconds", "skewed_seconds", "copied_seconds"};
  if (options.print) fmt::print("{} experts on {} ranks of one thread\n", kExperts, kRanks);
  for (size_t i = 0; i < all.size(); ++i) {
    const parallel::ExpertLoads loads = all[i].skewed ? skewed_loads() : parallel::ExpertLoads(kExperts, 1.0);
    const double imbalance = parallel::imbalance(all[i].placement, loads);
    if (options.print) fmt::print("{:<20}{:>10.2f} ms  imbalance {:.2f}\n", all[i].name, 1e3 * seconds[i], imbalance);
    result[keys[i]] = seconds[i];
  }
  if (options.print) fmt::print("the copy wins back {:.0f}% of the lost time\n", 100 * won_back);
  return result;
}

}  // namespace cadre::launch
