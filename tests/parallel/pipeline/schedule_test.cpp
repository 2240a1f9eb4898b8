#include "parallel/pipeline/schedule.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/error.h"
#include "parallel/pipeline/generators.h"
#include "parallel/pipeline/validate.h"
#include "tests/parallel/pipeline/shapes.h"

namespace cadre::parallel {
namespace {

// "F0 F1 B0": a rank's compute actions, the stage after a dot when it is not the rank's first.
std::string text_of(const ScheduleShape& shape, int rank) {
  std::string text;
  const ActionLists lists = compute_actions(shape);
  for (const Action& action : lists[static_cast<size_t>(rank)]) {
    if (!text.empty()) text += ' ';
    text += "FBIW"[static_cast<size_t>(action.kind)] + std::to_string(action.micro_batch);
    if (action.stage != rank) text += '.' + std::to_string(action.stage);
  }
  return text;
}

TEST(PipelineSchedule, ActionsOfSmallSchedules) {
  EXPECT_EQ(text_of({ScheduleKind::kGPipe, 2, 1, 3}, 1), "F0 F1 F2 B0 B1 B2");
  EXPECT_EQ(text_of({ScheduleKind::k1F1B, 3, 1, 4}, 0), "F0 F1 F2 B0 F3 B1 B2 B3");
  EXPECT_EQ(text_of({ScheduleKind::k1F1B, 3, 1, 4}, 2), "F0 B0 F1 B1 F2 B2 F3 B3");
  EXPECT_EQ(text_of({ScheduleKind::k1F1B, 4, 1, 2}, 0), "F0 F1 B0 B1");
  // Megatron-LM: 2 (p - 1 - r) + (v - 1) p forwards ahead.
  EXPECT_EQ(text_of({ScheduleKind::kInterleaved, 2, 2, 4}, 0),
            "F0 F1 F0.2 F1.2 F2 B0.2 F3 B1.2 F2.2 B0 F3.2 B1 B2.2 B3.2 B2 B3");
  EXPECT_EQ(text_of({ScheduleKind::kInterleaved, 2, 2, 4}, 1),
            "F0 F1 F0.3 B0.3 F1.3 B1.3 F2 B0 F3 B1 F2.3 B2.3 F3.3 B3.3 B2 B3");
  EXPECT_EQ(text_of({ScheduleKind::kZeroBubble, 3, 1, 4}, 0), "F0 F1 F2 I0 W0 F3 I1 W1 I2 W2 I3 W3");
  EXPECT_EQ(text_of({ScheduleKind::kZeroBubble, 3, 1, 4}, 2), "F0 I0 F1 I1 F2 I2 W0 F3 I3 W1 W2 W3");
}

TEST(PipelineSchedule, EveryShapeIsValid) {
  for (const ScheduleShape& shape : all_shapes()) {
    const std::vector<std::string> found = problems(make_schedule(shape));
    ASSERT_TRUE(found.empty()) << to_string(shape) << ": " << found.front();
  }
}

TEST(PipelineSchedule, BeyondTheUsualSizes) {
  for (const ScheduleShape& shape :
       {ScheduleShape{ScheduleKind::kInterleaved, 13, 5, 47}, ScheduleShape{ScheduleKind::kZeroBubble, 32, 1, 33},
        ScheduleShape{ScheduleKind::k1F1B, 64, 1, 3}}) {
    EXPECT_NO_THROW(require_valid(make_schedule(shape))) << to_string(shape);
  }
}

TEST(PipelineSchedule, GroupsTakeTheRemainder) {
  EXPECT_EQ(interleaved_groups({ScheduleKind::kInterleaved, 4, 2, 8}), (std::vector{4, 4}));
  EXPECT_EQ(interleaved_groups({ScheduleKind::kInterleaved, 4, 2, 11}), (std::vector{6, 5}));
  EXPECT_EQ(interleaved_groups({ScheduleKind::kInterleaved, 4, 2, 3}), (std::vector{3}));
  for (const ScheduleShape& shape : all_shapes()) {
    const std::vector<int> groups = interleaved_groups(shape);
    EXPECT_EQ(std::accumulate(groups.begin(), groups.end(), 0), shape.micro_batches);
  }
}

TEST(PipelineSchedule, OneChunkInterleavedIsOneForwardOneBackward) {
  EXPECT_EQ(make_schedule({ScheduleKind::kInterleaved, 4, 1, 7}).ranks,
            make_schedule({ScheduleKind::k1F1B, 4, 1, 7}).ranks);
}

TEST(PipelineSchedule, RefusesImpossibleShapes) {
  EXPECT_THROW(make_schedule({ScheduleKind::k1F1B, 0, 1, 1}), ConfigError);
  EXPECT_THROW(make_schedule({ScheduleKind::k1F1B, 1, 0, 1}), ConfigError);
  EXPECT_THROW(make_schedule({ScheduleKind::k1F1B, 1, 1, 0}), ConfigError);
  try {
    make_schedule({ScheduleKind::kZeroBubble, 4, 2, 8});
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "pipeline schedule zero_bubble: 2 stages on a rank; wanted 1, or schedule interleaved");
  }
}

TEST(PipelineSchedule, StagesGoRoundTheRanks) {
  const ScheduleShape shape{ScheduleKind::kInterleaved, 3, 2, 1};
  for (int stage = 0; stage < shape.stages(); ++stage) {
    EXPECT_EQ(shape.stage_at(shape.rank_of(stage), shape.chunk_of(stage)), stage);
  }
  EXPECT_EQ(shape.rank_of(4), 1);
  EXPECT_EQ(shape.chunk_of(4), 1);
}

}  // namespace
}  // namespace cadre::parallel
