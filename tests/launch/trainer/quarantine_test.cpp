// An expert whose own weights turn non-finite: training goes on without it, and then with it again.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "launch/trainer/local_rank.h"
#include "launch/trainer/stages.h"
#include "launch/verify/verify_case.h"
#include "parallel/comm/thread.h"
#include "tests/launch/verify/random_case.h"

namespace cadre::launch {
namespace {

using namespace testing;

constexpr int kLayer = 1, kExpert = 3;
const std::string kSegment = "layers.1.moe.experts.3.w2";

VerifyCase case_for(bool isolated, int ranks) {
  Settings settings = small_settings();
  if (isolated) settings.moe.isolation.emplace().quarantine = {.steps = 2, .snapshot_every = 1};
  return make_verify_case(settings, 2 * ranks, false);
}

LocalRankOptions options_for(const VerifyCase& verify_case, const parallel::Layout& layout) {
  LocalRankOptions options;
  options.layout = layout;
  options.training.network = verify_case.network;
  ParallelSettings parallel;
  parallel.pipeline_parallel = layout.pipeline;
  options.training.shard.layers_per_stage =
      decide_stages(parallel, counted_costs(verify_case.network, verify_case.seq_length));
  options.training.seed = verify_case.seed;
  TrainerOptions& trainer = options.training.trainer;
  trainer.total_steps = 10;
  trainer.step.micro_batches = verify_case.micro_batches / layout.data;
  trainer.step.global_target_tokens = static_cast<double>(verify_case.global_tokens());
  return options;
}

// One rank, which may hold the expert.
class Rank {
 public:
  Rank(const VerifyCase& verify_case, const parallel::Layout& layout, parallel::Communicator& world)
      : case_(verify_case), local_(world, options_for(verify_case, layout)) {}

  StepOutcome step() {
    const int64_t each = case_.micro_batches / local_.mesh().layout().data;
    int64_t next = local_.state().step * case_.micro_batches + local_.mesh().here().data * each;
    return local_.trainer().step([&] { return verify_batch(case_, next++); }, {});
  }

  // Empty where it is not held.
  std::vector<float> weights() {
    for (const optim::SegmentState& segment : local_.state().optimizer().segments()) {
      if (segment.name != kSegment) continue;
      const float* values = local_.state().store().values().data<float>() + segment.offset;
      return {values, values + segment.count()};
    }
    return {};
  }

  void spoil() {
    for (const optim::SegmentState& segment : local_.state().optimizer().segments()) {
      if (segment.name != kSegment) continue;
      local_.state().store().values().data<float>()[segment.offset] = std::numeric_limits<float>::quiet_NaN();
    }
    local_.state().store().touch();
  }

 private:
  const VerifyCase& case_;
  LocalRank local_;
};

int64_t tokens_of(const StepOutcome& outcome) {
  return outcome.metrics.experts[static_cast<size_t>(kLayer)].tokens[static_cast<size_t>(kExpert)];
}

class Quarantine : public ::testing::TestWithParam<parallel::Layout> {};

TEST_P(Quarantine, AnExpertOfNonFiniteWeightsRestsAndComesBack) {
  using Kind = optim::ExpertEvent::Kind;
  const parallel::Layout& layout = GetParam();
  const VerifyCase verify_case = case_for(true, layout.data);
  parallel::ThreadWorld(layout.ranks()).run([&](parallel::Communicator& world) {
    Rank rank(verify_case, layout, world);
    EXPECT_GT(tokens_of(rank.step()), 0);
    const std::vector<float> healthy = rank.weights();
    rank.spoil();
    const StepOutcome spoiled = rank.step();
    EXPECT_TRUE(spoiled.finite) << spoiled.non_finite;
    ASSERT_EQ(spoiled.metrics.events.size(), 1U);
    const optim::ExpertEvent& event = spoiled.metrics.events.front();
    EXPECT_EQ(event.kind, Kind::kQuarantined);
    EXPECT_EQ(event.layer, kLayer);
    EXPECT_EQ(event.expert, kExpert);
    // Each of its rows twice at most: as an output, and as a gradient.
    EXPECT_GE(event.faults, static_cast<double>(tokens_of(spoiled)));
    EXPECT_EQ(rank.weights(), healthy);
    for (int rest = 0; rest < 2; ++rest) {
      const StepOutcome without = rank.step();
      EXPECT_TRUE(without.finite);
      EXPECT_EQ(tokens_of(without), 0);
      EXPECT_EQ(rank.weights(), healthy);
    }
    const StepOutcome back = rank.step();
    EXPECT_GT(tokens_of(back), 0);
    ASSERT_EQ(back.metrics.events.size(), 1U);
    EXPECT_EQ(back.metrics.events.front().kind, Kind::kReadmitted);
    EXPECT_TRUE(healthy.empty() || rank.weights() != healthy);
  });
}

TEST_P(Quarantine, WithoutIsolationItSpoilsTheLoss) {
  const parallel::Layout& layout = GetParam();
  const VerifyCase verify_case = case_for(false, layout.data);
  parallel::ThreadWorld(layout.ranks()).run([&](parallel::Communicator& world) {
    Rank rank(verify_case, layout, world);
    rank.step();
    rank.spoil();
    EXPECT_FALSE(rank.step().finite);
  });
}

INSTANTIATE_TEST_SUITE_P(Layouts, Quarantine,
                         ::testing::Values(parallel::Layout{1, 1, 1}, parallel::Layout{2, 1, 2},
                                           parallel::Layout{2, 2, 2}, parallel::Layout{2, 2, 1}));

}  // namespace
}  // namespace cadre::launch
