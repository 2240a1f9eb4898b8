// What is measured of experts: against sums over the weights and scores themselves, and the same on every layout.

#include "launch/trainer/expert_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "launch/trainer/local_rank.h"
#include "launch/verify/verify_case.h"
#include "parallel/comm/thread.h"

namespace cadre::launch {
namespace {

Settings settings() {
  Settings s;
  s.data.seq_length = 6;
  s.batch.micro_batch_size = 1;
  s.model.hidden_size = 24;
  s.model.num_layers = 2;
  s.model.num_heads = 2;
  s.model.vocab_size = 40;
  s.moe.num_experts = 4;
  s.moe.top_k = 2;
  s.moe.ffn_hidden_size = 720;  // more than one piece of a matrix
  s.moe.capacity_factor = 1;
  s.moe.drop_policy = kernels::DropPolicy::kByPosition;
  return s;
}

struct Case {
  parallel::Layout layout{};
  int zero = 0;
  int64_t every = 2;
  int64_t most_rows = 0;
  parallel::DispatcherKind dispatcher = parallel::DispatcherKind::kAllToAll;
  optim::OptimizerKind optimizer = optim::OptimizerKind::kAdamW;
};

LocalRankOptions options_for(const VerifyCase& of, const Case& c) {
  LocalRankOptions options;
  options.layout = c.layout;
  options.dtype = Dtype::kF64;
  options.training.network = of.network;
  options.training.shard.layers_per_stage.assign(c.layout.pipeline > 1 ? 2 : 0, 1);
  options.training.shard.zero = c.zero;
  options.training.shard.dispatch.kind = c.dispatcher;
  options.training.shard.dispatch.max_rows = c.most_rows;
  options.training.optimizer.kind = c.optimizer;
  options.training.trainer.total_steps = 10;
  options.training.trainer.experts_every = c.every;
  options.training.trainer.step.micro_batches = of.micro_batches / c.layout.data;
  options.training.trainer.step.global_target_tokens = static_cast<double>(of.global_tokens());
  return options;
}

// The metrics of each of some steps. `between` sees rank 0 before each of them, and after the last.
std::vector<StepMetrics> train(const Settings& s, const Case& c, int64_t steps,
                               const std::function<void(LocalRank&)>& between = {}) {
  const VerifyCase of = make_verify_case(s, 4, false);
  std::vector<StepMetrics> all;
  parallel::ThreadWorld(c.layout.ranks()).run([&](parallel::Communicator& world) {
    LocalRank rank(world, options_for(of, c));
    for (int64_t step = 0; step < steps; ++step) {
      if (between && world.rank() == 0) between(rank);
      int64_t next = step * of.micro_batches + rank.mesh().here().data * of.micro_batches / c.layout.data;
      StepMetrics metrics = rank.trainer().step([&] { return verify_batch(of, next++); }, {}).metrics;
      if (world.rank() == 0) all.push_back(std::move(metrics));
    }
    if (between && world.rank() == 0) between(rank);
  });
  return all;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& wanted, const char* what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], wanted[i], 1e-9 * std::abs(wanted[i]) + 1e-15) << what << " " << i;
}

void expect_same(const StepMetrics& got, const StepMetrics& wanted) {
  ASSERT_EQ(got.experts.size(), wanted.experts.size());
  for (size_t i = 0; i < got.experts.size(); ++i) {
    const LayerLoad &a = got.experts[i], &b = wanted.experts[i];
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.drops, b.drops);
    EXPECT_EQ(a.idle_steps, b.idle_steps);
    EXPECT_NEAR(a.balance_loss, b.balance_loss, 1e-12);
    ASSERT_EQ(a.detail.has_value(), b.detail.has_value());
    if (!a.detail) continue;
    expect_near(a.detail->mass, b.detail->mass, "mass");
    expect_near(a.detail->gradient_norm, b.detail->gradient_norm, "gradient norm");
    expect_near(a.detail->update_norm, b.detail->update_norm, "update norm");
    EXPECT_NEAR(a.detail->entropy, b.detail->entropy, 1e-10);
  }
}

TEST(ExpertMetrics, AreTheSameOnEveryLayout) {
  for (const optim::OptimizerKind kind : {optim::OptimizerKind::kAdamW, optim::OptimizerKind::kSgd}) {
    const std::vector<StepMetrics> wanted = train(settings(), {.optimizer = kind}, 4);
    EXPECT_GT(wanted[1].experts[0].dropped, 0) << "the case says nothing about drops";
    for (Case c : std::vector<Case>{{.layout = {2, 1, 1}},
                                    {.layout = {4, 1, 2}, .zero = 1},
                                    {.layout = {4, 1, 4}, .zero = 2},
                                    {.layout = {2, 2, 2}, .zero = 1},
                                    {.layout = {2, 1, 2}, .most_rows = 3},
                                    {.layout = {2, 1, 2}, .dispatcher = parallel::DispatcherKind::kAllGather}}) {
      SCOPED_TRACE(c.layout.to_string());
      c.optimizer = kind;
      const std::vector<StepMetrics> got = train(settings(), c, 4);
      for (size_t i = 0; i < 4; ++i) expect_same(got[i], wanted[i]);
    }
  }
}

TEST(ExpertMetrics, AreTheSameWithRecompute) {
  Settings s = settings();
  const std::vector<StepMetrics> wanted = train(s, {}, 2);
  s.recompute.mode = model::RecomputeMode::kFull;
  const std::vector<StepMetrics> got = train(s, {}, 2);
  for (size_t i = 0; i < 2; ++i) expect_same(got[i], wanted[i]);
}

TEST(ExpertMetrics, AreMeasuredInTheFirstStepAndInMultiples) {
  const auto measured = [](int64_t every) {
    std::vector<int64_t> steps;
    const std::vector<StepMetrics> metrics = train(settings(), {.every = every}, 7);
    for (const StepMetrics& m : metrics) {
      if (m.experts[0].detail) steps.push_back(m.step);
    }
    return steps;
  };
  EXPECT_EQ(measured(3), (std::vector<int64_t>{1, 3, 6}));
  EXPECT_EQ(measured(0), std::vector<int64_t>{});
}

// By layer and expert: all its weights.
using Weights = std::map<std::pair<int, int>, std::vector<double>>;

Weights weights_of(LocalRank& rank) {
  Weights weights;
  for (const optim::SegmentState& segment : rank.state().optimizer().segments()) {
    if (segment.expert < 0) continue;
    const Tensor values = rank.state().store().values().flat_slice(segment.offset, segment.shape);
    std::vector<double>& of = weights[{segment.layer, segment.expert}];
    of.insert(of.end(), values.data<double>(), values.data<double>() + values.elements());
  }
  return weights;
}

TEST(ExpertMetrics, UpdateNormsAreThoseOfTheWeights) {
  Settings s = settings();
  model::ExpertRuleSettings frozen;
  frozen.experts = "layers.1.experts.2";
  frozen.frozen = 1.0;
  s.moe.rules = {frozen};
  std::vector<Weights> seen;
  const std::vector<StepMetrics> metrics =
      train(s, {.every = 1}, 3, [&](LocalRank& rank) { seen.push_back(weights_of(rank)); });
  for (size_t step = 0; step < metrics.size(); ++step) {
    for (const LayerLoad& load : metrics[step].experts) {
      for (size_t e = 0; e < load.tokens.size(); ++e) {
        const std::pair<int, int> expert{static_cast<int>(load.layer), static_cast<int>(e)};
        const std::vector<double>&before = seen[step][expert], &after = seen[step + 1][expert];
        double square = 0;
        for (size_t i = 0; i < before.size(); ++i) square += (after[i] - before[i]) * (after[i] - before[i]);
        EXPECT_NEAR(load.detail->update_norm[e], std::sqrt(square), 1e-12 * std::sqrt(square));
        EXPECT_EQ(square == 0, load.layer == 1 && e == 2);
        EXPECT_GT(load.detail->gradient_norm[e], 0) << "whatever becomes of it";
      }
    }
  }
}

TEST(ExpertMetrics, SigmoidScoresAreSharesToo) {
  Settings s = settings();
  s.moe.router.score = autograd::ScoreKind::kSigmoid;
  const std::vector<StepMetrics> metrics = train(s, {}, 1);
  for (const LayerLoad& load : metrics[0].experts) {
    const std::vector<double>& mass = load.detail->mass;
    EXPECT_NEAR(std::accumulate(mass.begin(), mass.end(), 0.0), 1, 1e-12);
    EXPECT_GT(load.detail->entropy, 0.9 * std::log(4.0)) << "scores of a fresh router are all near a half";
    EXPECT_LE(load.detail->entropy, std::log(4.0) + 1e-12);
  }
}

TEST(ExpertMetrics, TrafficHasEveryComputedRowOnce) {
  const Settings s = settings();
  for (const Case& c :
       std::vector<Case>{{.layout = {4, 1, 2}}, {.layout = {2, 2, 2}}, {.layout = {4, 1, 4}, .most_rows = 2}}) {
    const std::vector<StepMetrics> metrics = train(s, c, 2);
    for (const StepMetrics& m : metrics) {
      ASSERT_TRUE(m.dispatch) << c.layout.to_string();
      EXPECT_EQ(m.dispatch->data, c.layout.data);
      EXPECT_EQ(m.dispatch->expert, c.layout.expert);
      int64_t rows = 0;
      for (const LayerLoad& load : m.experts)
        rows += std::accumulate(load.tokens.begin(), load.tokens.end(), int64_t{0}) - load.dropped;
      const std::vector<double>& bytes = m.dispatch->bytes;
      EXPECT_EQ(std::accumulate(bytes.begin(), bytes.end(), 0.0), static_cast<double>(2 * rows * 24 * 8));
      // The first rank of each group holds the first experts.
      double first = 0;
      for (size_t i = 0; i < bytes.size(); i += static_cast<size_t>(c.layout.expert)) first += bytes[i];
      int64_t wanted = 0;
      for (const LayerLoad& load : m.experts) {
        for (int64_t e = 0; e < 4 / c.layout.expert; ++e)
          wanted += load.tokens[static_cast<size_t>(e)] - load.drops[static_cast<size_t>(e)];
      }
      EXPECT_EQ(first, static_cast<double>(2 * wanted * 24 * 8));
    }
  }
  EXPECT_FALSE(train(s, {.layout = {2, 1, 1}}, 1)[0].dispatch) << "every rank has all experts";
}

// Two hosts of two ranks: the first rank of each knows what its host uses.
double joules_of_step(std::optional<double> of_second_host) {
  const VerifyCase of = make_verify_case(settings(), 4, false);
  double result = 0;
  parallel::ThreadWorld(4).run([&](parallel::Communicator& world) {
    LocalRankOptions options = options_for(of, {.layout = {2, 2, 1}});
    if (world.rank() == 0) options.training.trainer.joules = [] { return 3.5; };
    if (world.rank() == 2) options.training.trainer.joules = [=] { return of_second_host; };
    LocalRank rank(world, options);
    const StepMetrics metrics = rank.trainer().step([&] { return verify_batch(of, 0); }, {}).metrics;
    if (world.rank() == 3) result = metrics.joules;
  });
  return result;
}

TEST(StepEnergy, IsThatOfAllHostsOrUnknown) {
  EXPECT_EQ(joules_of_step(2.0), 5.5);
  EXPECT_EQ(joules_of_step(std::nullopt), 0) << "half of the energy is no answer";
}

}  // namespace
}  // namespace cadre::launch
