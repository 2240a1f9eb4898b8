#include "launch/plan/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "launch/plan/report.h"
#include "tests/launch/plan/plan_fixture.h"

namespace cadre::launch {
namespace {

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Search, RanksWhatFitsBySpeedAndSaysWhyTheRestDoesNot) {
  const Settings settings = testing::plan_settings();
  testing::Machine machine;
  Estimator roomy(settings, machine.device, machine.exec);
  SearchSpace space;
  space.ranks = 8;
  const Ranking all = rank_layouts(roomy, space);
  ASSERT_GT(all.fitting.size(), 20u);
  EXPECT_TRUE(all.too_large.empty());
  for (size_t i = 1; i < all.fitting.size(); ++i) {
    EXPECT_LE(all.fitting[i - 1].time.step, all.fitting[i].time.step);
  }
  EXPECT_EQ(all.impossible.at("more stages than the 4 layers"), 1) << "dp=1,ep=1,pp=8";

  std::vector<double> peaks;
  for (const Estimate& estimate : all.fitting) peaks.push_back(estimate.peak_bytes());
  std::nth_element(peaks.begin(), peaks.begin() + 10, peaks.end());
  machine.device.memory_bytes = peaks[10];
  const Ranking some = rank_layouts(roomy, space);
  const auto fit = std::count_if(peaks.begin(), peaks.end(), [&](double peak) { return peak <= peaks[10]; });
  EXPECT_EQ(some.fitting.size(), static_cast<size_t>(fit));
  EXPECT_EQ(some.too_large.size() + some.fitting.size(), all.fitting.size());
  const std::string text = ranking_text(some, roomy, 3);
  EXPECT_NE(text.find("and " + std::to_string(fit - 3) + " slower ones"), std::string::npos) << text;
  EXPECT_NE(text.find(" of them "), std::string::npos) << text;
  EXPECT_NE(text.find("1 cannot be: more stages than the 4 layers"), std::string::npos) << text;
  EXPECT_EQ(to_json(some, 3).at("fitting").size(), 3u);
}

TEST(Search, KeepsWhatIsGivenAndRefusesWhatCannotBe) {
  const Settings settings = testing::plan_settings();
  testing::Machine machine;
  Estimator estimator(settings, machine.device, machine.exec);
  SearchSpace space;
  space.ranks = 8;
  space.layout.pipeline = 2;
  space.micro_batch_size = 2;
  for (const Estimate& estimate : rank_layouts(estimator, space).fitting) {
    EXPECT_EQ(estimate.candidate.layout.pipeline, 2);
    EXPECT_EQ(estimate.candidate.micro_batch_size, 2);
  }
  space.layout.pipeline = 8;
  EXPECT_EQ(error_of([&] { rank_layouts(estimator, space); }),
            "no layout of 8 ranks is possible; more stages than the 4 layers: 1");
  space.layout.pipeline = 3;
  EXPECT_EQ(error_of([&] { rank_layouts(estimator, space); }),
            "no layout of 8 ranks is possible; none has the given sizes");
}

TEST(Search, SixtyFiveThousandRanks) {
  Settings settings = testing::plan_settings();
  settings.model.hidden_size = 7168;
  settings.model.num_heads = 128;
  settings.model.head_dim = 128;
  settings.model.num_kv_heads = 8;
  settings.model.num_layers = 61;
  settings.model.ffn_hidden_size = 18432;
  settings.model.vocab_size = 129280;
  settings.moe.num_experts = 256;
  settings.moe.top_k = 8;
  settings.moe.ffn_hidden_size = 2048;
  settings.moe.shared_experts = 1;
  settings.moe.dense_layers = 3;
  settings.data.seq_length = 4096;
  settings.batch.global_batch_size = 65536;
  settings.recompute.mode = model::RecomputeMode::kFull;
  testing::Machine machine;
  const Device device = device_named("h200", Dtype::kF32);
  Estimator estimator(settings, device, machine.exec);
  SearchSpace space;
  space.ranks = 65536;
  space.micro_batch_size = 1;
  const Ranking ranking = rank_layouts(estimator, space);
  ASSERT_FALSE(ranking.fitting.empty());
  EXPECT_FALSE(ranking.too_large.empty());
  const Estimate& best = ranking.fitting.front();
  EXPECT_GT(best.candidate.layout.expert, 1);
  EXPECT_GT(best.share_of_peak, 0.05);
  EXPECT_LT(best.share_of_peak, 0.7);
}

TEST(DecideLayout, TakesTheFastestThatFits) {
  testing::Machine machine;
  Settings settings = testing::plan_settings();
  settings.parallel.expert_parallel = {};
  settings.parallel.pipeline_parallel = {};
  settings.batch.micro_batch_size = {};
  decide_layout(settings, 4, 1e9, machine.exec);
  ASSERT_FALSE(settings.parallel.expert_parallel.is_auto());
  ASSERT_FALSE(settings.parallel.pipeline_parallel.is_auto());
  ASSERT_FALSE(settings.batch.micro_batch_size.is_auto());
  EXPECT_EQ(*settings.parallel.data_parallel.value * *settings.parallel.pipeline_parallel.value, 4);
  const Settings decided = settings;
  decide_layout(settings, 4, 1e3, machine.exec);
  EXPECT_EQ(settings.batch.micro_batch_size, decided.batch.micro_batch_size) << "nothing is left to decide";
}

TEST(DecideLayout, LessMemoryMakesSmallerMicroBatchesOrAnError) {
  testing::Machine machine;
  Estimator estimator(testing::plan_settings(), machine.device, machine.exec);
  const auto needs = [&](int64_t micro_batch) { return estimator.estimate({{1, 1, 1}, micro_batch}).peak_bytes(); };
  const auto decide = [&](double bytes) {
    Settings settings = testing::plan_settings();
    settings.batch.micro_batch_size = {};
    settings.device.memory_gib = bytes / (1 << 30);
    decide_layout(settings, 1, 1e15, machine.exec);
    return *settings.batch.micro_batch_size.value;
  };
  EXPECT_GT(needs(4), needs(2));
  EXPECT_GT(decide(1e9), 2);
  EXPECT_EQ(decide((needs(2) + needs(4)) / 2), 2);
  const std::string error = error_of([&] { decide(needs(1) / 2); });
  EXPECT_NE(error.find("device.memory_gib: no layout of 1 ranks fits"), std::string::npos) << error;
  EXPECT_NE(error.find("of them "), std::string::npos) << error;
}

}  // namespace
}  // namespace cadre::launch
