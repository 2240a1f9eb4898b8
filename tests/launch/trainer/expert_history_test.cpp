// What is remembered of experts' loads: by hand, in checkpoints, and the same on every layout.

#include "launch/trainer/expert_history.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "launch/trainer/local_rank.h"
#include "launch/verify/verify_case.h"
#include "parallel/comm/thread.h"

namespace cadre::launch {
namespace {

model::NetworkSettings network(int64_t experts) {
  model::NetworkSettings network;
  network.model.num_layers = 3;
  network.moe.num_experts = experts;
  network.moe.dense_layers = 1;
  return network;
}

ExpertHistory history(int64_t experts = 4) { return ExpertHistory(model::ExpertLayout(network(experts))); }

TEST(ExpertHistory, CountsIdleStepsAndAveragesLoads) {
  ExpertHistory history = launch::history();
  ASSERT_EQ(history.layers().size(), 2u);
  EXPECT_EQ(history.layers()[1].load_average, std::vector<double>(4, 1.0));
  const std::vector<double> nobody(4, 0.0);
  history.add({{6, 2, 0, 0}, nobody}, {{3, 0, 0, 0}, nobody});
  history.add({{8, 0, 0, 0}, {2, 2, 2, 2}}, {{3, 0, 0, 0}, {2, 2, 2, 2}});
  EXPECT_EQ(history.layers()[0].idle_steps, (std::vector<int64_t>{0, 2, 2, 2})) << "dropped tokens are not computed";
  EXPECT_EQ(history.layers()[1].idle_steps, std::vector<int64_t>(4, 0));
  const std::vector<double>& loads = history.layers()[0].load_average;
  EXPECT_NEAR(loads[0], (1 * 0.99 + 3 * 0.01) * 0.99 + 4 * 0.01, 1e-15);
  EXPECT_NEAR(loads[1], (1 * 0.99 + 1 * 0.01) * 0.99, 1e-15);
  EXPECT_EQ(history.layers()[1].load_average, std::vector<double>(4, 1.0)) << "a step without choices says nothing";
  for (int i = 0; i < 2000; ++i) history.add({{8, 0, 0, 0}, nobody}, {{3, 0, 0, 0}, nobody});
  EXPECT_NEAR(loads[0], 4, 1e-6);
  EXPECT_NEAR(loads[3], 0, 1e-6);
}

TEST(ExpertHistory, GoesThroughACheckpoint) {
  ExpertHistory before = history();
  before.add({{6, 2, 0, 0}, {1, 1, 3, 3}}, {{6, 2, 0, 0}, {1, 1, 3, 0}});
  nlohmann::json scalars = {{"step", 1}};
  before.save(scalars);
  ExpertHistory after = history();
  after.restore(nlohmann::json::parse(scalars.dump()));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(after.layers()[i].idle_steps, before.layers()[i].idle_steps);
    EXPECT_EQ(after.layers()[i].load_average, before.layers()[i].load_average);
  }
  after.restore({{"step", 1}});
  EXPECT_EQ(after.layers()[0].idle_steps, before.layers()[0].idle_steps) << "an older checkpoint has none";
  ExpertHistory other = history(5);
  EXPECT_THROW(other.restore(scalars), CheckpointError);
}

VerifyCase verify_case() {
  Settings s;
  s.data.seq_length = 6;
  s.batch.micro_batch_size = 1;
  s.model.hidden_size = 16;
  s.model.num_layers = 2;
  s.model.num_heads = 2;
  s.model.vocab_size = 40;
  s.moe.num_experts = 4;
  s.moe.top_k = 1;
  s.moe.ffn_hidden_size = 8;
  s.moe.capacity_factor = 0.5;
  return make_verify_case(s, 4, false);
}

// The history after some steps, as a checkpoint has it.
nlohmann::json trained(const parallel::Layout& layout, int64_t steps) {
  const VerifyCase of = verify_case();
  LocalRankOptions options;
  options.layout = layout;
  options.dtype = Dtype::kF64;
  options.training.network = of.network;
  options.training.shard.layers_per_stage.assign(layout.pipeline > 1 ? 2 : 0, 1);
  options.training.trainer.total_steps = 10;
  options.training.trainer.step.micro_batches = of.micro_batches / layout.data;
  options.training.trainer.step.global_target_tokens = static_cast<double>(of.global_tokens());
  nlohmann::json result;
  parallel::ThreadWorld(layout.ranks()).run([&](parallel::Communicator& world) {
    LocalRank rank(world, options);
    for (int64_t step = 0; step < steps; ++step) {
      int64_t next = step * of.micro_batches + rank.mesh().here().data * of.micro_batches / layout.data;
      rank.trainer().step([&] { return verify_batch(of, next++); }, {});
    }
    const nlohmann::json scalars = rank.state().scalars();
    if (world.rank() == 0) result = {scalars.at("expert_idle_steps"), scalars.at("expert_load_average")};
  });
  return result;
}

TEST(ExpertHistory, IsTheSameOnEveryLayout) {
  const nlohmann::json wanted = trained({}, 3);
  EXPECT_NE(wanted[1][0][0], 1.0) << "nothing was counted";
  EXPECT_EQ(trained({2, 1, 2}, 3), wanted);
  EXPECT_EQ(trained({2, 2, 1}, 3), wanted);
}

}  // namespace
}  // namespace cadre::launch
