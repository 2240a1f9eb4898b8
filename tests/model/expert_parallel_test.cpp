// Expert parallelism against one rank that holds all experts: losses, and the gradient of every segment.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>

#include "parallel/comm/thread.h"
#include "tests/model/tiny_model.h"

namespace cadre::model::testing {
namespace {

using parallel::DispatcherKind;
using parallel::DispatchOptions;
using parallel::Placement;

// Sums over ranks: what data parallelism makes of them.
struct Sums {
  double loss = 0;
  std::map<std::string, std::vector<double>> gradients;  // by segment

  void add(const TinyModel& model, const StepResult& result) {
    loss += result.total();
    for (const auto& parameter : model.store.parameters()) {
      for (const autograd::Segment& segment : parameter->segments) {
        std::vector<double>& sum = gradients[segment.name];
        sum.resize(static_cast<size_t>(segment.count()));
        const auto begin = static_cast<size_t>(parameter->offset + segment.offset);
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += result.gradients[begin + i];
      }
    }
  }
};

struct Case {
  int ranks;
  NetworkSettings settings = tiny_settings();
  Dtype dtype = Dtype::kF64;
  bool all_to_one = false;  // every token chooses experts 0 and 1
  parallel::DispatchOptions dispatch{};
  int64_t length = 7;
  bool empty_rank = false;  // the last rank has no tokens
  autograd::BackwardPart part = autograd::BackwardPart::kAll;
};

Extents extents_of(const Case& c, int rank) {
  const bool empty = c.empty_rank && rank == c.ranks - 1;
  return {empty ? 0 : 2, c.length, static_cast<uint64_t>(rank)};
}

// A routing that sends every token to the first experts.
RoutingTrace skewed(TinyModel& model, const NetworkSettings& settings) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < model.batch.batch * model.batch.length * settings.moe.top_k; ++i) {
    ids.push_back(i % settings.moe.top_k);
  }
  Tensor trace = model.tensor_of(ids).reshape(Shape{model.batch.batch * model.batch.length, settings.moe.top_k});
  return RoutingTrace(static_cast<size_t>(settings.model.num_layers), trace);
}

StepResult step_of(TinyModel& model, const Case& c) {
  model.part = c.part;
  if (!c.all_to_one) return model.step();
  const RoutingTrace trace = skewed(model, c.settings);
  return model.step(&trace);
}

Sums of_one_rank(const Case& c) {
  Sums sums;
  for (int rank = 0; rank < c.ranks; ++rank) {
    TinyModel model(c.settings, c.dtype, extents_of(c, rank));
    sums.add(model, step_of(model, c));
  }
  return sums;
}

Sums of_expert_group(const Case& c, const Placement& placement) {
  Sums sums;
  std::mutex mutex;
  parallel::ThreadWorld(c.ranks).run([&](parallel::Communicator& group) {
    const ExpertShard shard{placement.held_by(group.rank()),
                            parallel::make_group_dispatcher(group, placement, c.dispatch)};
    TinyModel model(c.settings, shard, c.dtype, extents_of(c, group.rank()));
    const StepResult result = step_of(model, c);
    const std::lock_guard lock(mutex);
    sums.add(model, result);
  });
  return sums;
}

void expect_equal(const Case& c, const Placement& placement, double tolerance) {
  const Sums wanted = of_one_rank(c), got = of_expert_group(c, placement);
  EXPECT_NEAR(got.loss, wanted.loss, tolerance * std::abs(wanted.loss));
  ASSERT_EQ(got.gradients.size(), wanted.gradients.size());
  double norm = 0;
  for (const auto& [name, gradient] : wanted.gradients) {
    for (const double g : gradient) norm += g * g;
  }
  for (const auto& [name, gradient] : wanted.gradients) {
    const std::vector<double>& mine = got.gradients.at(name);
    double difference = 0, own = 0;
    for (size_t i = 0; i < gradient.size(); ++i) {
      difference += (mine[i] - gradient[i]) * (mine[i] - gradient[i]);
      own += gradient[i] * gradient[i];
    }
    EXPECT_LE(std::sqrt(difference), tolerance * std::max(std::sqrt(own), 1e-4 * std::sqrt(norm))) << name;
  }
}

void expect_equal(const Case& c, double tolerance = 1e-12) {
  expect_equal(c, Placement::even(c.settings.moe.num_experts, c.ranks), tolerance);
}

constexpr DispatcherKind kKinds[] = {DispatcherKind::kAllToAll, DispatcherKind::kAllGather};

TEST(ExpertParallel, EqualsOneRankAtEveryGroupSize) {
  // Of 4 experts: a divisor, none, one each, and more ranks than experts.
  for (const int ranks : {1, 2, 3, 4, 5, 8}) {
    for (const DispatcherKind kind : kKinds) {
      for (const int64_t chunks : {1, 2, 3})
        expect_equal({.ranks = ranks, .dispatch = {.kind = kind, .chunks = chunks}});
    }
  }
}

TEST(ExpertParallel, EqualsOneRankInFp32WithReplayedRouting) {
  expect_equal({.ranks = 3, .dtype = Dtype::kF32, .all_to_one = true, .dispatch = {.chunks = 2}}, 2e-5);
}

// Rank 1 holds nothing; ids not in order.
const Placement kGap({{2}, {0}, {0, 2}, {0}}, 3), kMixed({{1}, {0}, {1}, {0}}, 2);

TEST(ExpertParallel, APlacementMayBeAnyTable) {
  for (const RecomputeMode mode : {RecomputeMode::kNone, RecomputeMode::kSelective, RecomputeMode::kFull}) {
    for (const DispatchOptions dispatch : {DispatchOptions{}, DispatchOptions{.max_rows = 9, .chunks = 2}}) {
      Case c{.ranks = 3, .dispatch = dispatch};
      c.settings.recompute.mode = mode;
      expect_equal(c, kGap, 1e-12);
      c.ranks = 2;
      expect_equal(c, kMixed, 1e-12);
    }
  }
}

TEST(ExpertParallel, ExpertsAndRanksWithoutTokensAreOrdinary) {
  for (const DispatcherKind kind : kKinds) {
    for (const int64_t chunks : {1, 3}) {
      const DispatchOptions dispatch{.kind = kind, .chunks = chunks};
      expect_equal({.ranks = 4, .all_to_one = true, .dispatch = dispatch});
      expect_equal({.ranks = 3, .dispatch = dispatch, .empty_rank = true});
      expect_equal({.ranks = 6, .all_to_one = true, .dispatch = dispatch, .empty_rank = true});
    }
  }
}

TEST(ExpertParallel, RecomputeExchangesAgain) {
  for (const RecomputeMode mode : {RecomputeMode::kSelective, RecomputeMode::kFull}) {
    for (const DispatcherKind kind : kKinds) {
      Case c{.ranks = 3, .dispatch = {.kind = kind, .chunks = 2}};
      c.settings.recompute.mode = mode;
      expect_equal(c);
      c.empty_rank = c.all_to_one = true;
      expect_equal(c);
    }
  }
}

TEST(ExpertParallel, RoundsEqualOneRank) {
  for (const RecomputeMode mode : {RecomputeMode::kNone, RecomputeMode::kSelective, RecomputeMode::kFull}) {
    for (const int64_t max_rows : {1, 5, 17}) {
      for (const int64_t chunks : {1, 2}) {
        Case c{.ranks = 3, .dispatch = {.max_rows = max_rows, .chunks = chunks}};
        c.settings.recompute.mode = mode;
        expect_equal(c);
        c.all_to_one = c.empty_rank = true;
        c.dispatch.kind = DispatcherKind::kAllGather;
        expect_equal(c);
      }
    }
  }
}

// With inputs first and parameters later, as zero-bubble schedules have it.
TEST(ExpertParallel, DeferredParametersEqualOneRank) {
  for (const RecomputeMode mode : {RecomputeMode::kNone, RecomputeMode::kFull}) {
    Case c{.ranks = 3, .dispatch = {.max_rows = 9, .chunks = 2}, .part = autograd::BackwardPart::kInputsOnly};
    c.settings.recompute.mode = mode;
    expect_equal(c);
    expect_equal(c, kGap, 1e-12);
  }
}

// What a rank holds in whole experts is summed in one piece, whatever the chunks and the transport.
TEST(ExpertParallel, ChunksAndDispatchersChangeNoBit) {
  Case c{.ranks = 2, .dtype = Dtype::kF32};
  const auto placement = Placement::even(c.settings.moe.num_experts, c.ranks);
  const Sums wanted = of_expert_group(c, placement);
  for (const DispatcherKind kind : kKinds) {
    c.dispatch = {.kind = kind, .chunks = 2};
    const Sums got = of_expert_group(c, placement);
    EXPECT_EQ(got.loss, wanted.loss);
    EXPECT_EQ(got.gradients, wanted.gradients);
  }
}

// All tokens go to the experts of rank 0: its memory stays bounded.
TEST(ExpertParallel, RoundsBoundTheMemoryOfAnAttractiveRank) {
  Case c{.ranks = 2, .all_to_one = true};
  c.settings.moe.ffn_hidden_size = 512;
  c.length = 70;
  const auto peak = [&](int64_t max_rows, int64_t chunks) {
    c.dispatch = {.max_rows = max_rows, .chunks = chunks};
    const auto placement = Placement::even(c.settings.moe.num_experts, c.ranks);
    size_t bytes = 0;
    parallel::ThreadWorld(c.ranks).run([&](parallel::Communicator& group) {
      const ExpertShard shard{placement.held_by(group.rank()),
                              parallel::make_group_dispatcher(group, placement, c.dispatch)};
      TinyModel model(c.settings, shard, c.dtype, extents_of(c, group.rank()));
      const StepResult result = step_of(model, c);
      if (group.rank() == 0) bytes = result.peak;
    });
    return bytes;
  };
  // 560 rows of 1024 + 512 doubles a layer; in rounds of 40 rows, those of one round of one layer, and packed weights.
  for (const autograd::BackwardPart part : {autograd::BackwardPart::kAll, autograd::BackwardPart::kInputsOnly}) {
    c.part = part;
    const size_t all = peak(0, 1), rounds = peak(40, 1), chunked = peak(40, 2);
    EXPECT_LT(rounds, all / 3) << rounds << " of " << all;
    EXPECT_LT(chunked, all / 3) << chunked << " of " << all;
  }
}

TEST(ExpertParallel, CapacityIsCountedWhereTokensComeFrom) {
  for (const kernels::DropPolicy policy : {kernels::DropPolicy::kByScore, kernels::DropPolicy::kByPosition}) {
    Case c{.ranks = 3, .dispatch = {.max_rows = 8, .chunks = 2}};
    c.settings.moe.capacity_factor = 0.7;
    c.settings.moe.drop_policy = policy;
    expect_equal(c);
  }
}

TEST(ExpertParallel, OtherLayersAreUnchanged) {
  Case c{.ranks = 2};
  c.settings.moe.dense_layers = 1;
  c.settings.moe.shared_experts = 0;
  c.settings.model.tie_embeddings = false;
  c.settings.moe.balance.scope = BalanceScope::kSequence;
  expect_equal(c);
}

}  // namespace
}  // namespace cadre::model::testing
