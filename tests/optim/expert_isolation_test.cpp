#include "optim/expert_isolation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cadre::optim {
namespace {

using Kind = ExpertEvent::Kind;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

model::ExpertLayout two_layers_of_three() {
  model::NetworkSettings network;
  network.model.num_layers = 2;
  network.moe.num_experts = 3;
  return model::ExpertLayout(network);
}

// One isolated expert, step by step.
class OneExpert {
 public:
  explicit OneExpert(model::IsolationSettings settings, std::optional<double> clip_norm = std::nullopt)
      : isolation_([&] {
          settings.experts = "layers.1.experts.2";
          return ExpertIsolation(settings, two_layers_of_three(), clip_norm);
        }()) {}

  IsolatedDecision step(double norm, double tokens = 1, double faults = 0, const ExpertRule& rule = {}) {
    const ExpertIsolation::Result result =
        isolation_.step(++step_, kGlobalTokens, {{norm * norm, tokens, faults, rule}});
    events = result.events;
    return result.decisions.at(0);
  }
  IsolatedAction action(double norm, double tokens = 1, double faults = 0) { return step(norm, tokens, faults).action; }
  // The kind of the step's only event.
  Kind happened() const {
    EXPECT_EQ(events.size(), 1u);
    return events.at(0).kind;
  }
  double scale() const { return isolation_.loss_scale(1, 2); }
  const IsolatedExpert& state() const { return isolation_.state(0); }
  bool quarantined(int64_t step) const { return isolation_.quarantined(1, 2, step); }

  static constexpr double kGlobalTokens = 64;
  std::vector<ExpertEvent> events;

 private:
  ExpertIsolation isolation_;
  int64_t step_ = 0;
};

TEST(ExpertIsolation, ItsExpertsAreThoseOfTheSelector) {
  model::IsolationSettings settings;
  settings.experts = "layers.1.experts.1..2";
  const ExpertIsolation isolation(settings, two_layers_of_three(), 1.0);
  EXPECT_EQ(isolation.experts(), (std::vector<model::ExpertPlace>{{1, 1}, {1, 2}}));
  EXPECT_EQ(isolation.index_of(1, 2), 1);
  EXPECT_EQ(isolation.index_of(0, 2), -1);
  EXPECT_EQ(isolation.loss_scale(0, 2), 1);
  EXPECT_FALSE(isolation.quarantined(0, 2, 1));
}

TEST(ExpertIsolation, ASelectorOfNobodyIsAnErrorWithItsKey) {
  for (const char* text : {"layers.*.experts.code", "layers.7.experts.*", "experts"}) {
    model::IsolationSettings settings;
    settings.experts = text;
    try {
      ExpertIsolation(settings, two_layers_of_three(), 1.0);
      FAIL() << text;
    } catch (const model::ExpertLayoutError& error) {
      EXPECT_EQ(error.key(), "moe.isolation.experts");
    }
  }
}

TEST(ExpertIsolation, AGradientIsClippedByItsOwnNorm) {
  OneExpert automatic({}, 2.0);
  EXPECT_DOUBLE_EQ(automatic.step(8).factor, 0.25);
  EXPECT_EQ(automatic.step(1).factor, 1);
  ExpertRule rule;
  rule.clip_norm = 0.5;
  EXPECT_DOUBLE_EQ(automatic.step(8, 1, 0, rule).factor, 0.0625) << "a rule's norm wins";
  rule.clip_norm = 4;
  EXPECT_DOUBLE_EQ(automatic.step(8, 1, 0, rule).factor, 0.5);
  model::IsolationSettings settings;
  settings.clip_norm = std::optional<double>();
  EXPECT_EQ(OneExpert(settings, 2.0).step(8).factor, 1) << "null: none";
  settings.clip_norm = std::optional<double>(4);
  EXPECT_DOUBLE_EQ(OneExpert(settings, 2.0).step(8).factor, 0.5);
}

TEST(ExpertIsolation, ABadGradientIsLeftOutAndTold) {
  OneExpert expert({}, 1.0);
  for (const double norm : {kNan, kInfinity, 1e200}) {
    EXPECT_EQ(expert.action(norm), IsolatedAction::kNothing);
    EXPECT_EQ(expert.happened(), Kind::kSkipped);
  }
  EXPECT_EQ(expert.action(1, 5, 2), IsolatedAction::kNothing) << "rows that were not finite";
  EXPECT_EQ(expert.events.at(0), (ExpertEvent{1, 2, Kind::kSkipped, 2, 0}));
  EXPECT_EQ(expert.state().skipped, 4);
  EXPECT_EQ(expert.action(1), IsolatedAction::kUpdate);
  EXPECT_TRUE(expert.events.empty());
}

TEST(ExpertIsolation, NothingHappensToAFrozenExpert) {
  model::IsolationSettings settings;
  settings.accumulate_tokens = 10;
  settings.quarantine.emplace();
  OneExpert expert(settings);
  ExpertRule frozen;
  frozen.frozen = true;
  for (const double norm : {1.0, kNan}) {
    EXPECT_EQ(expert.step(norm, 5, 1, frozen).action, IsolatedAction::kNothing);
    EXPECT_TRUE(expert.events.empty());
    EXPECT_EQ(expert.state(), IsolatedExpert());
  }
}

TEST(ExpertIsolation, AnIdleExpertIsLeftOut) {
  model::IsolationSettings settings;
  EXPECT_EQ(OneExpert(settings).action(0, 0), IsolatedAction::kUpdate);
  settings.skip_idle = true;
  EXPECT_EQ(OneExpert(settings).action(0, 0), IsolatedAction::kNothing);
  EXPECT_EQ(OneExpert(settings).action(0, 1), IsolatedAction::kUpdate);
}

TEST(ExpertIsolation, GradientsAreKeptUntilEnoughTokensWereSeen) {
  model::IsolationSettings settings;
  settings.accumulate_tokens = 10;
  OneExpert expert(settings);
  EXPECT_EQ(expert.action(1, 4), IsolatedAction::kKeep);
  EXPECT_EQ(expert.action(kNan, 8), IsolatedAction::kNothing);
  EXPECT_EQ(expert.state().tokens_seen, 4) << "those of a bad step do not count";
  EXPECT_EQ(expert.action(1, 5), IsolatedAction::kKeep);
  EXPECT_EQ(expert.action(1, 1), IsolatedAction::kUpdate);
  EXPECT_EQ(expert.state().tokens_seen, 0);
  EXPECT_EQ(expert.action(1, 9), IsolatedAction::kKeep);
}

TEST(ExpertIsolation, AMeanOverItsOwnTokensIsTakenBeforeClipping) {
  model::IsolationSettings settings;
  settings.normalise_by_tokens = true;
  EXPECT_DOUBLE_EQ(OneExpert(settings).step(3, 4).factor, 16);
  EXPECT_DOUBLE_EQ(OneExpert(settings).step(3, 0).factor, 1);
  EXPECT_DOUBLE_EQ(OneExpert(settings, 24.0).step(3, 4).factor, 8) << "48 is clipped to 24";
  settings.accumulate_tokens = 6;
  OneExpert expert(settings);
  expert.step(3, 4);
  EXPECT_DOUBLE_EQ(expert.step(3, 4).factor, 8) << "over the tokens of both steps";
}

TEST(ExpertIsolation, AQuarantinedExpertGoesBackAndComesBack) {
  model::IsolationSettings settings;
  settings.quarantine = model::QuarantineSettings{3, 2};
  settings.accumulate_tokens = 2;
  OneExpert expert(settings);
  EXPECT_FALSE(expert.step(1).snapshot);
  EXPECT_TRUE(expert.step(1).snapshot) << "step 2";
  expert.step(1);
  const IsolatedDecision bad = expert.step(kNan);
  EXPECT_EQ(bad.action, IsolatedAction::kRestore);
  EXPECT_FALSE(bad.snapshot) << "it was not healthy";
  EXPECT_EQ(expert.events.at(0), (ExpertEvent{1, 2, Kind::kQuarantined, 0, 7}));
  EXPECT_EQ(expert.state().tokens_seen, 0);
  for (int64_t step = 5; step <= 7; ++step) {
    EXPECT_TRUE(expert.quarantined(step));
    const IsolatedDecision decision = expert.step(step == 6 ? kNan : 1);
    EXPECT_EQ(decision.action, IsolatedAction::kNothing);
    EXPECT_FALSE(decision.snapshot);
    EXPECT_TRUE(expert.events.empty()) << "a bad gradient does not make it longer";
  }
  EXPECT_FALSE(expert.quarantined(8));
  const IsolatedDecision back = expert.step(1, 2);
  EXPECT_EQ(back.action, IsolatedAction::kUpdate);
  EXPECT_TRUE(back.snapshot);
  EXPECT_EQ(expert.happened(), Kind::kReadmitted);
  expert.step(1);
  EXPECT_TRUE(expert.events.empty());
}

TEST(ExpertIsolation, ALossScaleGrowsAndShrinks) {
  model::IsolationSettings settings;
  settings.loss_scale = model::LossScaleSettings{8, 2, 3, 16};
  OneExpert expert(settings);
  EXPECT_EQ(expert.scale(), 8);
  for (const double wanted : {8, 8, 16, 16, 16, 16}) {
    EXPECT_EQ(expert.action(1), IsolatedAction::kUpdate);
    EXPECT_EQ(expert.scale(), wanted);
  }
  expert.step(1);
  EXPECT_EQ(expert.state().good_steps, 1);
  for (const double wanted : {8, 4, 2, 1, 1}) {
    EXPECT_EQ(expert.action(kInfinity), IsolatedAction::kNothing);
    EXPECT_EQ(expert.scale(), wanted);
    EXPECT_EQ(expert.state().good_steps, 0);
  }
}

TEST(ExpertIsolation, ASmallerScaleIsTriedBeforeQuarantine) {
  model::IsolationSettings settings;
  settings.loss_scale = model::LossScaleSettings{4, 2, 100, 16};
  settings.quarantine.emplace();
  OneExpert expert(settings);
  EXPECT_EQ(expert.action(kInfinity), IsolatedAction::kNothing);
  EXPECT_EQ(expert.action(kInfinity), IsolatedAction::kNothing);
  EXPECT_EQ(expert.scale(), 1);
  EXPECT_EQ(expert.action(kInfinity), IsolatedAction::kRestore);
  EXPECT_EQ(OneExpert(settings).action(1, 1, 3), IsolatedAction::kRestore) << "no scale mends a fault of the forward";
}

TEST(ExpertIsolation, ASetStateKeepsNothingThatTheSettingsDoNotUse) {
  const IsolatedExpert saved{32, 7, 9, 50, 3};
  model::IsolationSettings settings;
  ExpertIsolation plain(settings, two_layers_of_three(), 1.0);
  plain.set_state(4, saved);
  EXPECT_EQ(plain.state(4), (IsolatedExpert{1, 0, 0, 0, 3}));
  settings.loss_scale.emplace();
  settings.quarantine.emplace();
  settings.accumulate_tokens = 1;
  ExpertIsolation all(settings, two_layers_of_three(), 1.0);
  EXPECT_EQ(all.state(4).loss_scale, 65536);
  all.set_state(4, saved);
  EXPECT_EQ(all.state(4), saved);
  EXPECT_TRUE(all.quarantined(1, 1, 50));
}

}  // namespace
}  // namespace cadre::optim
