#include "optim/expert_rules.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/rng.h"
#include "optim/optimizer.h"

namespace cadre::optim {
namespace {

model::ExpertLayout two_layers_of_three() {
  model::NetworkSettings network;
  network.model.num_layers = 2;
  network.moe.num_experts = 3;
  return model::ExpertLayout(network);
}

model::ExpertRuleSettings rule_for(const char* experts) {
  model::ExpertRuleSettings rule;
  rule.experts = experts;
  return rule;
}

std::string error_of(const model::ExpertRuleSettings& rule) {
  try {
    ExpertRules({rule}, two_layers_of_three());
  } catch (const model::ExpertLayoutError& error) {
    return error.what();
  }
  return "no error";
}

TEST(ExpertRules, LaterOnesWinKeyByKey) {
  model::ExpertRuleSettings all = rule_for("layers.*.experts.*"), one = rule_for("layers.1.experts.2");
  all.lr_scale = config::Expression("min(1, step / 10)");
  all.weight_decay = config::Expression(0.5);
  one.lr_scale = config::Expression(3.0);
  one.frozen = config::Expression("step > 5");
  const ExpertRules rules({all, one}, two_layers_of_three());
  const ExpertRules::ByExpert third = rules.at(3, 100), sixth = rules.at(6, 100);
  EXPECT_EQ(third.size(), 6u);
  EXPECT_DOUBLE_EQ(third.at({0, 0}).lr_scale, 0.3);
  ExpertRule wanted;
  wanted.lr_scale = 3;
  wanted.weight_decay = 0.5;
  EXPECT_EQ(third.at({1, 2}), wanted);
  EXPECT_TRUE(sixth.at({1, 2}).frozen);
  EXPECT_FALSE(sixth.at({1, 1}).frozen);
}

TEST(ExpertRules, ErrorsNameTheRule) {
  EXPECT_NE(
      error_of(rule_for("layers.*.experts.code")).find("moe.rules[0].experts: \"layers.*.experts.code\": no expert"),
      std::string::npos);
  model::ExpertRuleSettings rule = rule_for("layers.*.experts.*");
  rule.lr_scale = config::Expression("step - 2");
  EXPECT_EQ(error_of(rule), "moe.rules[0].lr_scale: is -1 at step 1, wanted >= 0");
  rule.lr_scale = config::Expression("epoch");
  EXPECT_NE(error_of(rule).find("variables are step, steps"), std::string::npos);
  rule.lr_scale.reset();
  rule.clip_norm = config::Expression("steps - 1");
  EXPECT_EQ(error_of(rule), "moe.rules[0].clip_norm: is 0 at step 1, wanted > 0");
  rule.clip_norm.reset();
  rule.beta2 = config::Expression("1 + step");
  EXPECT_EQ(error_of(rule), "moe.rules[0].beta2: is 2 at step 1, wanted below 1");
  rule.beta2.reset();
  rule.dropout = config::Expression("step + 0.5");
  EXPECT_EQ(error_of(rule), "moe.rules[0].dropout: is 1.5 at step 1, wanted a probability");
}

// A matrix and the three experts of a layer, of two segments each.
class RuledOptimizer : public ::testing::Test {
 protected:
  RuledOptimizer() {
    store_.declare("w", {3, 7}, 0.5, true);
    std::vector<autograd::Segment> segments;
    for (int expert = 0; expert < 3; ++expert) {
      const std::string name = "layers.1.moe.experts." + std::to_string(expert);
      segments.push_back({name + ".w1", {2, 4}, 16 * expert, expert});
      segments.push_back({name + ".w3", {2, 4}, 16 * expert + 8, expert});
    }
    store_.declare("experts", {3, 4, 4}, 0.5, true, std::move(segments));
    store_.materialise(context_, 4);
    settings_.kind = OptimizerKind::kSgd;
    settings_.momentum = 0;
    settings_.lr = 1;
    settings_.weight_decay = 0;
    settings_.clip_norm.reset();
    settings_.schedule.kind = ScheduleKind::kConstant;
  }

  void random_gradients(uint64_t stream) {
    Rng rng(6, RngPurpose::kTest, stream);
    for (int64_t i = 0; i < store_.elements(); ++i) store_.gradients().data<double>()[i] = rng.normal();
  }
  std::vector<double> values() const {
    const double* begin = store_.values().data<double>();
    return {begin, begin + store_.elements()};
  }
  // What a step took from the values of an expert, over its gradient: one number when they are parallel.
  double taken(const std::vector<double>& before, int expert) const {
    const int64_t begin = store_.find("experts")->offset + 16 * expert;
    double ratio = 0;
    for (int64_t i = begin; i < begin + 16; ++i) {
      const double gradient = store_.gradients().data<double>()[i];
      const double here = (before[static_cast<size_t>(i)] - store_.values().data<double>()[i]) / gradient;
      if (i > begin) {
        EXPECT_NEAR(here, ratio, 1e-9);
      }
      ratio = here;
    }
    return ratio;
  }
  double norm_of_expert(int expert) const {
    double square = 0;
    for (int64_t i = 0; i < 16; ++i) {
      const double g = store_.gradients().data<double>()[store_.find("experts")->offset + 16 * expert + i];
      square += g * g;
    }
    return std::sqrt(square);
  }

  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  ThreadPool threads_{2};
  autograd::Context context_{{threads_, kernels::best_isa()}, *allocator_, Dtype::kF64};
  autograd::ParameterStore store_;
  OptimizerSettings settings_;
};

TEST_F(RuledOptimizer, ScalesClipsAndFreezesEachExpertByItself) {
  model::ExpertRuleSettings scaled = rule_for("layers.1.experts.0"), clipped = rule_for("layers.1.experts.1"),
                            frozen = rule_for("layers.1.experts.2");
  scaled.lr_scale = config::Expression(0.25);
  clipped.clip_norm = config::Expression(0.5);
  frozen.frozen = config::Expression("step <= 1");
  Optimizer optimizer(context_, store_, settings_, {}, ExpertRules({scaled, clipped, frozen}, two_layers_of_three()));
  random_gradients(1);
  std::vector<double> before = values();
  const StepReport report = optimizer.step(1, 10);
  EXPECT_NEAR(taken(before, 0), 0.25, 1e-9);
  EXPECT_NEAR(taken(before, 1), 0.5 / norm_of_expert(1), 1e-9);
  EXPECT_EQ(taken(before, 2), 0);
  double square = 0.25 + std::pow(norm_of_expert(0), 2);
  for (int64_t i = 0; i < 21; ++i)
    square += std::pow(store_.gradients().data<double>()[store_.find("w")->offset + i], 2);
  EXPECT_NEAR(report.gradient_norm, std::sqrt(square), 1e-9) << "the clipped one counts with 0.5, the frozen one not";
  EXPECT_EQ(optimizer.segments().back().steps, 0);
  EXPECT_EQ(optimizer.segments().front().steps, 1);

  before = values();
  optimizer.step(2, 10);
  EXPECT_NEAR(taken(before, 2), 1, 1e-9) << "thawed";
  EXPECT_EQ(optimizer.segments().back().steps, 1);
}

TEST_F(RuledOptimizer, AFrozenExpertsGradientMayBeAnythingButAClippedOnesMustBeFinite) {
  model::ExpertRuleSettings frozen = rule_for("layers.1.experts.2"), clipped = rule_for("layers.1.experts.1");
  frozen.frozen = config::Expression(1.0);
  clipped.clip_norm = config::Expression(0.5);
  Optimizer optimizer(context_, store_, settings_, {}, ExpertRules({frozen, clipped}, two_layers_of_three()));
  random_gradients(1);
  double* const experts = store_.gradients().data<double>() + store_.find("experts")->offset;
  experts[40] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(optimizer.step(1, 10).finite);
  for (const double value : values()) EXPECT_TRUE(std::isfinite(value));
  experts[20] = std::numeric_limits<double>::infinity();
  const StepReport report = optimizer.step(2, 10);
  EXPECT_FALSE(report.finite);
  EXPECT_EQ(report.first_non_finite, "layers.1.moe.experts.1.w1");
}

TEST_F(RuledOptimizer, MomentumAndLossScaleAreAnExpertsOwn) {
  model::ExpertRuleSettings heavy = rule_for("layers.1.experts.0"), scaled = rule_for("layers.1.experts.1");
  heavy.momentum = config::Expression(0.5);
  scaled.loss_scale = config::Expression(1024.0);
  scaled.clip_norm = config::Expression(0.5);
  Optimizer optimizer(context_, store_, settings_, {}, ExpertRules({heavy, scaled}, two_layers_of_three()));
  for (int64_t step = 1; step <= 2; ++step) {
    random_gradients(1);
    const double norm = norm_of_expert(1);
    double* const gradient = store_.gradients().data<double>() + store_.find("experts")->offset + 16;
    for (int64_t i = 0; i < 16; ++i) gradient[i] *= 1024;
    const std::vector<double> before = values();
    optimizer.step(step, 10);
    EXPECT_NEAR(taken(before, 0), step == 1 ? 1 : 1.5, 1e-9);
    EXPECT_NEAR(norm_of_expert(1), norm, 1e-12) << "divided out, in place";
    EXPECT_NEAR(taken(before, 1), 0.5 / norm, 1e-9);
    EXPECT_NEAR(taken(before, 2), 1, 1e-9);
  }
}

TEST_F(RuledOptimizer, DecayRatesOfMomentsAreAnExpertsOwn) {
  settings_.kind = OptimizerKind::kAdamW;
  model::ExpertRuleSettings rule = rule_for("layers.1.experts.0");
  rule.beta1 = config::Expression(0.0);
  rule.beta2 = config::Expression(0.0);
  rule.eps = config::Expression("1e-12");
  Optimizer optimizer(context_, store_, settings_, {}, ExpertRules({rule}, two_layers_of_three()));
  for (int64_t step = 1; step <= 3; ++step) {
    random_gradients(static_cast<uint64_t>(step));
    const std::vector<double> before = values();
    optimizer.step(step, 10);
    const auto begin = static_cast<size_t>(store_.find("experts")->offset);
    double others = 0;
    for (size_t i = begin; i < begin + 16; ++i) {
      EXPECT_NEAR(std::abs(values()[i] - before[i]), 1, 1e-9) << "without memory a step is the gradient's sign";
      others += std::abs(values()[i + 16] - before[i + 16]);
    }
    EXPECT_TRUE(step == 1 || std::abs(others - 16) > 0.5);
  }
}

TEST_F(RuledOptimizer, WeightDecayIsAnExpertsOwn) {
  settings_.weight_decay = 0.5;
  model::ExpertRuleSettings rule = rule_for("layers.1.experts.0");
  rule.weight_decay = config::Expression(0.0);
  Optimizer optimizer(context_, store_, settings_, {}, ExpertRules({rule}, two_layers_of_three()));
  std::fill_n(store_.gradients().data<double>(), store_.elements(), 0.0);
  const std::vector<double> before = values();
  optimizer.step(1, 10);
  const auto at = static_cast<size_t>(store_.find("experts")->offset);
  EXPECT_EQ(values()[at], before[at]);
  EXPECT_NEAR(values()[at + 16], before[at + 16] / 2, 1e-12);
}

// Three steps from the same weights on random gradients, of which a rank keeps all, whatever the ZeRO stage.
struct Updated {
  std::vector<double> values;
  std::vector<std::vector<double>> moments;  // by segment, of all that it has
  std::vector<int64_t> lengths;              // of the tensors of moments
};

class MixedOptimizers : public RuledOptimizer, public ::testing::WithParamInterface<int> {
 protected:
  Updated update(OptimizerKind kind, const std::vector<model::ExpertRuleSettings>& rules) {
    settings_.kind = kind;
    settings_.momentum = 0.5;
    settings_.weight_decay = 0.125;
    std::copy(first_.begin(), first_.end(), store_.values().data<double>());
    const std::vector<parallel::ElementRange> whole = {{0, 21}, {0, 8}, {0, 8}, {0, 8}, {0, 8}, {0, 8}, {0, 8}};
    Optimizer optimizer(context_, store_, settings_, {GetParam(), whole, nullptr},
                        ExpertRules(rules, two_layers_of_three()));
    for (int64_t step = 1; step <= 3; ++step) {
      random_gradients(static_cast<uint64_t>(step));
      for (const SegmentState& segment : optimizer.segments()) {
        std::copy_n(store_.gradients().data<double>() + segment.offset, segment.count(),
                    optimizer.gradients().data<double>() + optimizer.gradient_offset(segment));
      }
      EXPECT_TRUE(optimizer.step(step, 10).finite);
    }
    Updated result{values(), {}, {}};
    for (const SegmentState& segment : optimizer.segments()) {
      std::vector<double>& moments = result.moments.emplace_back();
      for (const MomentTensor& moment : optimizer.moments()) {
        if (!segment.has(moment)) continue;
        const double* const begin = moment.tensor.data<double>() + segment.offset_in(moment);
        moments.insert(moments.end(), begin, begin + segment.count());
      }
    }
    for (const MomentTensor& moment : optimizer.moments()) result.lengths.push_back(moment.tensor.elements());
    return result;
  }

  std::vector<double> first_ = values();
};

TEST_P(MixedOptimizers, HaveTheBitsOfAnOptimizerOfOneKind) {
  const Updated adamw = update(OptimizerKind::kAdamW, {}), sgd = update(OptimizerKind::kSgd, {});
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
    const bool adam = kind == OptimizerKind::kAdamW;
    model::ExpertRuleSettings all = rule_for("layers.*.experts.*"), one = rule_for("layers.1.experts.1");
    all.optimizer = kind;
    one.optimizer = adam ? OptimizerKind::kSgd : OptimizerKind::kAdamW;
    const Updated mixed = update(kind, {all, one});
    const Updated &most = adam ? adamw : sgd, &other = adam ? sgd : adamw;
    const auto begin = static_cast<size_t>(store_.find("experts")->offset) + 16;
    for (size_t i = 0; i < mixed.values.size(); ++i) {
      const bool is_other = i >= begin && i < begin + 16;
      EXPECT_EQ(mixed.values[i], (is_other ? other : most).values[i]) << i;
    }
    for (size_t i = 0; i < mixed.moments.size(); ++i) {
      const bool is_other = i == 3 || i == 4;
      EXPECT_EQ(mixed.moments[i], (is_other ? other : most).moments[i]) << i;
    }
    ASSERT_EQ(mixed.lengths.size(), 3u);
    EXPECT_EQ(mixed.lengths[1], adam ? 32 + 4 * 16 : 2 * 16) << "second moments of AdamW's alone, to multiples of 16";
    EXPECT_EQ(mixed.lengths[0], mixed.lengths[2]) << "first ones of everything, once";
  }
}

// The trunk and two experts rest, whatever their gradients are.
TEST_P(MixedOptimizers, TrainOnlyUpdatesNothingElse) {
  model::MoeSettings moe;
  moe.train_only = {"layers.1.experts.1"};
  settings_.weight_decay = 0.5;
  settings_.clip_norm = 0.25;
  const std::vector<parallel::ElementRange> whole = {{0, 21}, {0, 8}, {0, 8}, {0, 8}, {0, 8}, {0, 8}, {0, 8}};
  Optimizer optimizer(context_, store_, settings_, {GetParam(), whole, nullptr},
                      ExpertRules(moe, two_layers_of_three()));
  random_gradients(1);
  store_.gradients().data<double>()[0] = std::numeric_limits<double>::quiet_NaN();
  for (const SegmentState& segment : optimizer.segments()) {
    std::copy_n(store_.gradients().data<double>() + segment.offset, segment.count(),
                optimizer.gradients().data<double>() + optimizer.gradient_offset(segment));
  }
  const StepReport report = optimizer.step(1, 10);
  EXPECT_TRUE(report.finite) << "what rests may have any gradient";
  EXPECT_NEAR(report.gradient_norm, norm_of_expert(1), 1e-12);
  const auto begin = static_cast<size_t>(store_.find("experts")->offset) + 16;
  for (size_t i = 0; i < first_.size(); ++i) {
    const bool trained = i >= begin && i < begin + 16;
    EXPECT_EQ(values()[i] != first_[i], trained) << i;
  }
  for (size_t i = 0; i < optimizer.segments().size(); ++i) {
    EXPECT_EQ(optimizer.segments()[i].steps, i == 3 || i == 4 ? 1 : 0) << optimizer.segments()[i].name;
  }
}

TEST(ExpertRules, TrainOnlyNamesTheSelectorThatIsWrong) {
  model::MoeSettings moe;
  moe.train_only = {"layers.0.experts.1", "layers.0.experts.7"};
  try {
    ExpertRules(moe, two_layers_of_three());
    FAIL() << "was accepted";
  } catch (const model::ExpertLayoutError& error) {
    EXPECT_EQ(error.key(), "moe.train_only[1]");
  }
}

TEST(ExpertRules, TrainOnlyWantsWeights) {
  model::NetworkSettings network;
  network.moe.top_k = 1;
  for (const auto computation : {model::ExpertComputation::kFull, model::ExpertComputation::kCopy}) {
    network.moe.groups.emplace_back().name = computation == model::ExpertComputation::kFull ? "full" : "copy";
    network.moe.groups.back().computation = computation;
  }
  const model::ExpertLayout layout(network);
  network.moe.train_only = {"layers.*.experts.copy"};
  EXPECT_THROW(ExpertRules(network.moe, layout), model::ExpertLayoutError);
  network.moe.train_only = {"layers.*.experts.*"};
  EXPECT_TRUE(ExpertRules(network.moe, layout).trains(0, 1));
}

INSTANTIATE_TEST_SUITE_P(Zero, MixedOptimizers, ::testing::Values(0, 1, 2));

}  // namespace
}  // namespace cadre::optim
