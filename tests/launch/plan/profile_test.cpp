#include "launch/plan/profile.h"

#include <gtest/gtest.h>

#include "launch/plan/block_runner.h"
#include "tests/launch/plan/plan_fixture.h"

namespace cadre::launch {
namespace {

ProfileShape shape_of(const Settings& settings, Dtype dtype = Dtype::kF32) {
  ProfileShape shape;
  shape.sequences = *settings.batch.micro_batch_size.value;
  shape.seq_length = settings.data.seq_length;
  shape.reset_at_documents = true;
  shape.dtype = dtype;
  return shape;
}

void expect_dry_is_real(const Settings& settings, Dtype dtype) {
  testing::Machine machine;
  const std::shared_ptr<Allocator> counting = make_counting_allocator(), host = make_host_allocator();
  BlockRunner dry(settings.network(), shape_of(settings, dtype), {machine.threads, machine.exec.isa, true}, *counting);
  BlockRunner real(settings.network(), shape_of(settings, dtype), machine.exec, *host);
  ASSERT_EQ(dry.blocks().size(), real.blocks().size());
  for (size_t block = 0; block < dry.blocks().size(); ++block) {
    for (int round = 0; round < 4; ++round) {
      const bool split = round == 3;
      const BlockRunner::Memory counted = dry.run(block, split), used = real.run(block, split);
      const std::string where = std::string(name_of(dry.blocks()[block].kind)) + ", round " + std::to_string(round);
      EXPECT_EQ(counted.kept, used.kept) << where;
      EXPECT_EQ(counted.deferred, used.deferred) << where;
      EXPECT_EQ(counted.forward_peak, used.forward_peak) << where;
      EXPECT_EQ(counted.backward_peak, used.backward_peak) << where;
      EXPECT_EQ(counting->stats().in_use, host->stats().in_use) << where;
    }
  }
}

TEST(Profile, ADryRunUsesTheMemoryOfARealOneToTheByte) {
  for (const model::RecomputeMode mode :
       {model::RecomputeMode::kNone, model::RecomputeMode::kSelective, model::RecomputeMode::kFull}) {
    Settings settings = testing::plan_settings();
    settings.recompute.mode = mode;
    expect_dry_is_real(settings, Dtype::kF32);
  }
  Settings settings = testing::plan_settings();
  settings.moe.shared_experts = 1;
  settings.moe.capacity_factor = 1.25;
  settings.moe.balance.scope = model::BalanceScope::kGlobalBatch;
  settings.model.tie_embeddings = false;
  expect_dry_is_real(settings, Dtype::kF64);
}

TEST(Profile, CountsTheWorkOfARealRun) {
  const Settings settings = testing::plan_settings();
  testing::Machine machine;
  const std::shared_ptr<Allocator> host = make_host_allocator();
  BlockRunner real(settings.network(), shape_of(settings), machine.exec, *host);
  const ModelProfile profile = profile_model(settings.network(), shape_of(settings), machine.exec);
  for (size_t block = 0; block < profile.blocks.size(); ++block) {
    real.profiler().clear();
    real.run(block);
    const OpWork& counted = profile.blocks[block].work;
    ASSERT_EQ(counted.size(), real.profiler().times().size());
    for (const auto& [op, time] : real.profiler().times()) {
      ASSERT_EQ(counted.count(op), 1u) << op;
      EXPECT_EQ(counted.at(op).calls, time.calls) << op;
      EXPECT_EQ(counted.at(op).flops, time.flops) << op;
      EXPECT_EQ(counted.at(op).bytes, time.bytes) << op;
    }
  }
}

TEST(Profile, ExpertsOnSeveralRanksAreSharedOut) {
  Settings settings = testing::plan_settings();
  testing::Machine machine;
  ProfileShape shape = shape_of(settings);
  const BlockProfile alone = *profile_model(settings.network(), shape, machine.exec).find(BlockKind::kMoeLayer);
  shape.placements.assign(static_cast<size_t>(settings.model.num_layers), parallel::Placement::even(8, 3));  // 2, 3, 3
  const BlockProfile shared = *profile_model(settings.network(), shape, machine.exec).find(BlockKind::kMoeLayer);
  EXPECT_EQ(shared.expert_parameters * 8, alone.expert_parameters * 3);
  EXPECT_EQ(shared.parameters, alone.parameters);
  EXPECT_EQ(shared.pieces_of_all_experts, alone.pieces_of_all_experts);
  EXPECT_TRUE(alone.traffic.empty());
  const auto row = static_cast<double>(settings.model.hidden_size) * 4;
  const auto rows = static_cast<double>(2 * shape.sequences * shape.seq_length);
  // The rank with experts 2, 3 and 4 sends its rows for the five others, and the gradients of what they return.
  EXPECT_DOUBLE_EQ(shared.traffic.at({"expert", "expert dispatch"}).bytes, 2 * rows * 5 / 8 * row);
  EXPECT_EQ(shared.traffic.at({"expert", "expert dispatch"}).calls, 2);
  EXPECT_EQ(shared.traffic.at({"expert", "expert counts"}).bytes, 2.0 * 8 * 8);
}

TEST(Profile, AModelOfATrillionParametersTakesNoMemory) {
  Settings settings = testing::plan_settings();
  settings.model.hidden_size = 16384;
  settings.model.num_heads = 128;
  settings.model.num_layers = 100;
  settings.model.vocab_size = 200'000;
  settings.moe.num_experts = 256;
  settings.moe.ffn_hidden_size = 8192;
  settings.data.seq_length = 8192;
  testing::Machine machine;
  const ModelProfile profile = profile_model(settings.network(), shape_of(settings), machine.exec);
  const BlockProfile& layer = *profile.find(BlockKind::kMoeLayer);
  EXPECT_EQ(layer.expert_parameters, int64_t{3} * 256 * 8192 * 16384);
  EXPECT_GT(layer.kept, int64_t{10} * 2 * 8192 * 16384 * 4);
}

TEST(Profile, TimesEveryOpOfABlock) {
  Settings settings = testing::plan_settings();
  testing::Machine machine;
  const std::vector<ModelProfile> timed = time_model(settings.network(), shape_of(settings), machine.exec, 2);
  ASSERT_EQ(timed.size(), 3u);
  for (const ModelProfile& profile : timed) {
    for (const BlockProfile& block : profile.blocks) {
      EXPECT_FALSE(block.work.empty());
      for (const auto& [op, time] : block.work) EXPECT_GT(time.seconds, 0) << op;
    }
  }
}

}  // namespace
}  // namespace cadre::launch
