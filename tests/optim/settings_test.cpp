#include "optim/settings.h"

#include <gtest/gtest.h>

#include "core/config/config.h"
#include "core/error.h"

namespace cadre::optim {
namespace {

TEST(OptimizerSettings, ParsesKindsByName) {
  const auto s = config::parse_text<OptimizerSettings>(
      "t.yaml", "kind: sgd\nclip_norm: null\nschedule:\n  kind: wsd\n  decay_shape: sqrt\n");
  EXPECT_EQ(s.kind, OptimizerKind::kSgd);
  EXPECT_FALSE(s.clip_norm.has_value());
  EXPECT_EQ(s.schedule.kind, ScheduleKind::kWarmupStableDecay);
  EXPECT_EQ(s.schedule.decay_shape, DecayShape::kSqrt);
}

TEST(OptimizerSettings, RejectsValuesOutOfRangeAndNamesTheKey) {
  for (const char* text : {"lr: 0", "beta1: 1", "beta2: -0.1", "eps: 0", "weight_decay: -1", "momentum: 1",
                           "clip_norm: 0", "schedule: {min_lr_ratio: 2}", "schedule: {period_factor: 0.5}"}) {
    EXPECT_THROW(config::parse_text<OptimizerSettings>("t.yaml", text), ConfigError) << text;
  }
}

TEST(OptimizerSettings, DefaultsPrintAndParseBack) {
  const std::string printed = config::print_resolved(OptimizerSettings{});
  EXPECT_EQ(config::print_resolved(config::parse_text<OptimizerSettings>("t.yaml", printed)), printed);
}

}  // namespace
}  // namespace cadre::optim
