// moe.train_only: all but the chosen experts keep every bit of their state, on any layout; and experts whose optimizer
// changes at a resume.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/config/expression.h"
#include "launch/checkpoint/reader.h"
#include "tests/core/io/temporary_directory.h"
#include "tests/launch/trainer/small_run.h"
#include "tests/launch/verify/random_case.h"

namespace cadre::launch {
namespace {

using namespace testing;
namespace fs = std::filesystem;

bool is_of(const std::string& tensor, const std::vector<std::string>& experts) {
  return std::any_of(experts.begin(), experts.end(),
                     [&](const std::string& expert) { return tensor.find("/" + expert + ".") != std::string::npos; });
}

nlohmann::json state_of(const fs::path& checkpoint) { return CheckpointReader(checkpoint).manifest().header.state; }

TEST(TrainOnly, NothingElseChangesABit) {
  const std::vector<std::string> chosen = {"layers.0.moe.experts.1", "layers.1.moe.experts.3",
                                           "layers.1.moe.experts.4"};
  const Variant layouts[] = {{}, {{4, 1, 2}}, {{2, 2, 2}}};
  for (size_t draw = 0; draw < 3 * std::size(layouts); ++draw) {
    const Variant& variant = layouts[draw / 3];
    Settings settings = small_settings();
    settings.moe.train_only = {"layers.0.experts.1", "layers.1.experts.3..4"};
    settings.moe.router.bias_update_rate = 0.01;
    settings.moe.balance.scope = model::BalanceScope::kGlobalBatch;
    settings.parallel.zero = static_cast<int64_t>(draw % 3);
    SCOPED_TRACE(variant.to_string() + ", zero " + std::to_string(settings.parallel.zero));
    const VerifyCase verify_case = make_verify_case(settings, 4, false);
    const cadre::testing::TemporaryDirectory directory;
    SmallRun run{.steps = 3, .save = directory.path() / "after", .save_before = directory.path() / "before"};
    run.optimizer.weight_decay = 0.5;
    carry_out(verify_case, variant, run);
    const fs::path before = directory.path() / "before/step-00000000", after = directory.path() / "after/step-00000003";
    size_t trained = 0;
    for (const std::string& name : differing_tensors(before, after)) {
      EXPECT_TRUE(is_of(name, chosen)) << name << " changed";
      ++trained;
    }
    EXPECT_EQ(trained, chosen.size() * 3 * 3) << "w1, w2 and w3, with two moments each";
    nlohmann::json was = state_of(before), is = state_of(after);
    for (const auto& [name, steps] : is.at("segment_steps").items()) {
      EXPECT_EQ(steps.get<int64_t>(), is_of("/" + name, chosen) ? 3 : 0) << name;
    }
    for (nlohmann::json* state : {&was, &is}) {
      // What is counted of experts goes on.
      for (const char* key : {"segment_steps", "step", "expert_idle_steps", "expert_load_average"}) state->erase(key);
    }
    EXPECT_EQ(was, is) << "routers rest";
  }
}

// What had another optimizer begins anew, whatever the layouts; then all of it is as on one rank.
TEST(ExpertOptimizers, MayChangeAtAResume) {
  for (const int64_t zero : {0, 1, 2}) {
    Settings settings = small_settings();
    settings.parallel.zero = zero;
    model::ExpertRuleSettings rule;
    rule.experts = "layers.*.experts.1..2";
    rule.optimizer = optim::OptimizerKind::kSgd;
    settings.moe.isolation.emplace();
    settings.moe.isolation->quarantine.emplace();
    const VerifyCase plain = make_verify_case(settings, 4, false);
    settings.moe.rules = {rule};
    const VerifyCase ruled = make_verify_case(settings, 4, false);
    const cadre::testing::TemporaryDirectory directory;
    const auto at = [&](const char* name, int step) {
      return directory.path() / name / ("step-0000000" + std::to_string(step));
    };
    carry_out(plain, {{2, 1, 2}}, {.steps = 2, .save = directory.path() / "plain"});
    carry_out(ruled, {{4, 1, 2}},
              {.from = at("plain", 2),
               .steps = 1,
               .save = directory.path() / "four",
               .save_before = directory.path() / "resumed"});
    const std::vector<std::string> changed = {"layers.0.moe.experts.1", "layers.0.moe.experts.2",
                                              "layers.1.moe.experts.1", "layers.1.moe.experts.2"};
    for (const std::string& name : differing_tensors(at("plain", 2), at("resumed", 2))) {
      EXPECT_TRUE(name.starts_with("/optimizer/") && is_of(name, changed)) << name;
    }
    CheckpointReader resumed(at("resumed", 2));
    EXPECT_TRUE(resumed.has("/optimizer/layers.0.moe.experts.1.w1/momentum"));
    EXPECT_TRUE(resumed.has("/optimizer/layers.0.moe.experts.1.w1/snapshot_momentum"));
    EXPECT_FALSE(resumed.has("/optimizer/layers.0.moe.experts.1.w1/exp_avg"));
    EXPECT_TRUE(resumed.has("/optimizer/layers.0.moe.experts.3.w1/exp_avg_sq"));
    EXPECT_EQ(state_of(at("resumed", 2)).at("segment_steps").at("layers.0.moe.experts.1.w1"), 0);
    EXPECT_EQ(state_of(at("resumed", 2)).at("segment_steps").at("layers.0.moe.experts.3.w1"), 2);
    const StepMetrics back = carry_out(ruled, {}, {.from = at("four", 3), .steps = 1});
    const StepMetrics wanted = carry_out(ruled, {}, {.from = at("resumed", 2), .steps = 2});
    EXPECT_NEAR(back.loss, wanted.loss, 1e-11);
    EXPECT_NEAR(back.gradient_norm, wanted.gradient_norm, 1e-11);
  }
}

}  // namespace
}  // namespace cadre::launch
