#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cadre::optim {
namespace {

ScheduleSettings schedule(ScheduleKind kind, int64_t warmup, double min_ratio) {
  ScheduleSettings settings;
  settings.kind = kind;
  settings.warmup_steps = warmup;
  settings.min_lr_ratio = min_ratio;
  return settings;
}

TEST(Schedule, WarmupRisesLinearlyAndReachesThePeakAtItsLastStep) {
  for (const auto kind : {ScheduleKind::kConstant, ScheduleKind::kLinear, ScheduleKind::kCosine,
                          ScheduleKind::kCosineRestarts, ScheduleKind::kWarmupStableDecay}) {
    const ScheduleSettings s = schedule(kind, 10, 0.1);
    EXPECT_DOUBLE_EQ(schedule_factor(s, 1, 100), 0.1);
    EXPECT_DOUBLE_EQ(schedule_factor(s, 5, 100), 0.5);
    EXPECT_DOUBLE_EQ(schedule_factor(s, 9, 100), 0.9);
    EXPECT_DOUBLE_EQ(schedule_factor(s, 10, 100), 1);
    if (kind != ScheduleKind::kConstant && kind != ScheduleKind::kWarmupStableDecay) {
      EXPECT_LT(schedule_factor(s, 11, 100), 1);
    }
  }
}

TEST(Schedule, ConstantStaysAtThePeak) {
  const ScheduleSettings s = schedule(ScheduleKind::kConstant, 0, 0.1);
  for (const int64_t step : {1, 50, 100, 200}) EXPECT_DOUBLE_EQ(schedule_factor(s, step, 100), 1);
}

TEST(Schedule, LinearFallsToTheFloorAtTheLastStepAndStaysThere) {
  const ScheduleSettings s = schedule(ScheduleKind::kLinear, 20, 0.2);
  EXPECT_NEAR(schedule_factor(s, 60, 100), 0.6, 1e-12);
  EXPECT_NEAR(schedule_factor(s, 100, 100), 0.2, 1e-12);
  EXPECT_NEAR(schedule_factor(s, 150, 100), 0.2, 1e-12);
}

TEST(Schedule, CosineIsHalfWayDownInTheMiddle) {
  const ScheduleSettings s = schedule(ScheduleKind::kCosine, 20, 0.2);
  EXPECT_NEAR(schedule_factor(s, 40, 100), 0.2 + 0.8 * 0.5 * (1 + std::sqrt(0.5)), 1e-12);
  EXPECT_NEAR(schedule_factor(s, 60, 100), 0.6, 1e-12);
  EXPECT_NEAR(schedule_factor(s, 100, 100), 0.2, 1e-12);
  EXPECT_NEAR(schedule_factor(s, 150, 100), 0.2, 1e-12);
}

TEST(Schedule, RestartsReturnToThePeakInGrowingCycles) {
  ScheduleSettings s = schedule(ScheduleKind::kCosineRestarts, 5, 0.1);
  s.period_steps = 10;
  s.period_factor = 2;
  EXPECT_NEAR(schedule_factor(s, 10, 1000), 0.55, 1e-12);
  EXPECT_NEAR(schedule_factor(s, 15, 1000), 1, 1e-12);
  EXPECT_NEAR(schedule_factor(s, 25, 1000), 0.55, 1e-12);
  EXPECT_NEAR(schedule_factor(s, 35, 1000), 1, 1e-12);
  EXPECT_NEAR(schedule_factor(s, 55, 1000), 0.55, 1e-12);
  EXPECT_NEAR(schedule_factor(s, 75, 1000), 1, 1e-12);
}

TEST(Schedule, StableDecayFallsInTheLastPartInTheShapeAsked) {
  ScheduleSettings s = schedule(ScheduleKind::kWarmupStableDecay, 10, 0.1);
  s.decay_fraction = 0.2;
  const std::pair<DecayShape, double> quarter_way[] = {
      {DecayShape::kLinear, 0.75}, {DecayShape::kCosine, 0.5 * (1 + std::sqrt(0.5))}, {DecayShape::kSqrt, 0.5}};
  for (const auto& [shape, left] : quarter_way) {
    s.decay_shape = shape;
    EXPECT_DOUBLE_EQ(schedule_factor(s, 50, 100), 1);
    EXPECT_DOUBLE_EQ(schedule_factor(s, 80, 100), 1);
    EXPECT_NEAR(schedule_factor(s, 85, 100), 0.1 + 0.9 * left, 1e-12);
    EXPECT_NEAR(schedule_factor(s, 100, 100), 0.1, 1e-12);
    EXPECT_NEAR(schedule_factor(s, 120, 100), 0.1, 1e-12);
  }
  s.decay_fraction = 0;
  EXPECT_DOUBLE_EQ(schedule_factor(s, 100, 100), 1);
}

TEST(Schedule, RunsShorterThanTheirWarmupStayFinite) {
  for (const auto kind : {ScheduleKind::kConstant, ScheduleKind::kLinear, ScheduleKind::kCosine,
                          ScheduleKind::kCosineRestarts, ScheduleKind::kWarmupStableDecay}) {
    const ScheduleSettings s = schedule(kind, 10, 0.1);
    for (int64_t step = 1; step <= 12; ++step) {
      const double factor = schedule_factor(s, step, 5);
      EXPECT_GE(factor, 0.1 - 1e-12);
      EXPECT_LE(factor, 1);
    }
  }
}

}  // namespace
}  // namespace cadre::optim
