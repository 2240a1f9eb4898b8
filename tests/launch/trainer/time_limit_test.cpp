#include "launch/trainer/time_limit.h"

#include <gtest/gtest.h>

#include <vector>

namespace cadre::launch {
namespace {

using std::chrono::seconds;

// Steps of these lengths, until the limit asks for an end; how many were made.
int64_t steps_made(std::optional<int64_t> limit, const std::vector<int>& lengths) {
  TimeLimit::Time now{};
  TimeLimit time_limit(limit, [&] { return now; });
  for (size_t step = 0; step < lengths.size(); ++step) {
    time_limit.step_begins();
    const bool last = time_limit.last_step();
    now += seconds(lengths[step]);
    if (last) return static_cast<int64_t>(step) + 1;
  }
  return static_cast<int64_t>(lengths.size());
}

TEST(TimeLimit, WithoutOneEveryStepFits) { EXPECT_EQ(steps_made(std::nullopt, std::vector<int>(50, 1000)), 50); }

TEST(TimeLimit, TheLastStepIsTheLastThatFits) {
  EXPECT_EQ(steps_made(100, std::vector<int>(50, 10)), 10);
  EXPECT_EQ(steps_made(99, std::vector<int>(50, 10)), 9);
  EXPECT_EQ(steps_made(109, std::vector<int>(50, 10)), 10);
}

TEST(TimeLimit, TheLongestStepCounts) {
  // A validation of 30 s once makes every later step one that may take 30 s.
  EXPECT_EQ(steps_made(100, {5, 30, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}), 5);
}

TEST(TimeLimit, AStepThatHasStartedIsFinished) {
  EXPECT_EQ(steps_made(1, std::vector<int>(50, 10)), 2);  // before the first step nothing is known
}

TEST(TimeLimit, ItIsAskedLateInAStep) {
  TimeLimit::Time now{};
  TimeLimit limit(100, [&] { return now; });
  limit.step_begins();
  now += seconds(101);
  EXPECT_TRUE(limit.last_step());
}

}  // namespace
}  // namespace cadre::launch
