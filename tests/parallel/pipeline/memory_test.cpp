#include "parallel/pipeline/memory.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/parallel/pipeline/shapes.h"

namespace cadre::parallel {
namespace {

TEST(PipelineMemory, PeaksOfKnownSchedules) {
  EXPECT_EQ(peak_activations(make_schedule({ScheduleKind::kGPipe, 4, 1, 8})), (std::vector{8, 8, 8, 8}));
  EXPECT_EQ(peak_activations(make_schedule({ScheduleKind::k1F1B, 4, 1, 8})), (std::vector{4, 3, 2, 1}));
  EXPECT_EQ(peak_activations(make_schedule({ScheduleKind::k1F1B, 4, 1, 2})), (std::vector{2, 2, 2, 1}));
  EXPECT_EQ(peak_activations(make_schedule({ScheduleKind::kInterleaved, 4, 2, 8})), (std::vector{11, 9, 7, 5}));
  EXPECT_EQ(peak_activations(make_schedule({ScheduleKind::kZeroBubble, 4, 1, 8})), (std::vector{4, 4, 4, 4}));
}

TEST(PipelineMemory, BoundsAreReached) {
  for (const ScheduleShape& shape : all_shapes()) {
    const std::vector<int> peaks = peak_activations(make_schedule(shape));
    for (int rank = 0; rank < shape.ranks; ++rank) {
      ASSERT_EQ(peaks[static_cast<size_t>(rank)], activation_bound(shape, rank)) << to_string(shape) << " " << rank;
    }
  }
}

// Zero-bubble's fullest rank holds what 1F1B's does; without what is deferred, every rank does.
TEST(PipelineMemory, ZeroBubbleHoldsNoMoreThan1F1B) {
  for (const ScheduleShape& shape : all_shapes()) {
    if (shape.kind != ScheduleKind::kZeroBubble) continue;
    ScheduleShape other = shape;
    other.kind = ScheduleKind::k1F1B;
    const std::vector<int> mine = peak_activations(make_schedule(shape));
    const std::vector<int> theirs = peak_activations(make_schedule(other));
    ASSERT_EQ(*std::max_element(mine.begin(), mine.end()), *std::max_element(theirs.begin(), theirs.end()));
    const std::vector<StageMemory> nothing_deferred(static_cast<size_t>(shape.stages()), StageMemory{1, 0});
    ASSERT_EQ(peak_bytes(make_schedule(shape), nothing_deferred), std::vector<double>(theirs.begin(), theirs.end()));
  }
}

TEST(PipelineMemory, BytesOfUnevenStages) {
  const Schedule schedule = make_schedule({ScheduleKind::k1F1B, 3, 1, 8});
  EXPECT_EQ(peak_bytes(schedule, {{10, 0}, {100, 0}, {1000, 0}}), (std::vector<double>{30, 200, 1000}));
}

TEST(PipelineMemory, ReceivesOfOneRank) {
  EXPECT_EQ(peak_receives(make_schedule({ScheduleKind::kInterleaved, 1, 3, 4})), (std::vector{0}));
}

}  // namespace
}  // namespace cadre::parallel
