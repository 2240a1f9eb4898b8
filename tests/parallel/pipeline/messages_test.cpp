#include "parallel/pipeline/messages.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "parallel/pipeline/generators.h"
#include "parallel/pipeline/memory.h"
#include "tests/parallel/pipeline/shapes.h"

namespace cadre::parallel {
namespace {

using enum ActionKind;

TEST(PipelineMessages, FollowFromComputeActions) {
  const ScheduleShape shape{ScheduleKind::kInterleaved, 2, 2, 4};
  EXPECT_EQ(send_after(shape, {kForward, 1, 3}), (Action{kSendActivation, 1, 3}));
  EXPECT_EQ(send_after(shape, {kForward, 3, 3}), std::nullopt);
  EXPECT_EQ(send_after(shape, {kBackwardInputs, 1, 3}), (Action{kSendGradient, 1, 3}));
  EXPECT_EQ(send_after(shape, {kBackwardWeights, 1, 3}), std::nullopt);
  EXPECT_EQ(send_after(shape, {kBackward, 0, 3}), std::nullopt);
  EXPECT_EQ(receive_before(shape, {kForward, 0, 3}), std::nullopt);
  EXPECT_EQ(receive_before(shape, {kForward, 2, 3}), (Action{kReceiveActivation, 2, 3}));
  EXPECT_EQ(receive_before(shape, {kBackward, 3, 3}), std::nullopt);
  EXPECT_EQ(receive_before(shape, {kBackward, 2, 3}), (Action{kReceiveGradient, 2, 3}));
  // Stages of one rank hand over without messages.
  EXPECT_EQ(send_after({ScheduleKind::kInterleaved, 1, 3, 1}, {kForward, 1, 0}), std::nullopt);
}

TEST(PipelineMessages, EndsBelongTogether) {
  EXPECT_EQ(other_end({kSendActivation, 1, 5}), (Action{kReceiveActivation, 2, 5}));
  EXPECT_EQ(other_end({kSendGradient, 1, 5}), (Action{kReceiveGradient, 0, 5}));
  for (const ActionKind kind : {kSendActivation, kReceiveActivation, kSendGradient, kReceiveGradient}) {
    const Action message{kind, 3, 2};
    EXPECT_EQ(other_end(other_end(message)), message);
  }
}

TEST(PipelineMessages, LeaveComputeActionsAsTheyWere) {
  for (const ScheduleShape& shape : all_shapes()) {
    const ActionLists compute = compute_actions(shape);
    ActionLists lists = with_messages({shape, compute}).ranks;
    for (std::vector<Action>& list : lists) std::erase_if(list, [](const Action& a) { return !is_compute(a.kind); });
    ASSERT_EQ(lists, compute) << to_string(shape);
  }
}

TEST(PipelineMessages, SendsFollowTheirProducerAtOnce) {
  const Schedule schedule = make_schedule({ScheduleKind::kZeroBubble, 4, 1, 6});
  for (const std::vector<Action>& list : schedule.ranks) {
    for (size_t i = 0; i < list.size(); ++i) {
      if (!is_compute(list[i].kind)) continue;
      const auto send = send_after(schedule.shape, list[i]);
      if (send) {
        EXPECT_EQ(list.at(i + 1), *send);
      }
    }
  }
}

// Receives are posted when data comes: waiting for them costs little against messages that never wait.
TEST(PipelineMessages, RunUnderComputation) {
  for (const ScheduleShape& shape : all_shapes()) {
    const Schedule schedule = make_schedule(shape);
    const Costs costs = Costs::uniform(shape.stages(), 1, 1, 1, 0.1);
    const double ideal = simulate(schedule, costs, Transport::kDirect).makespan;
    ASSERT_LE(simulate(schedule, costs).makespan, 1.03 * ideal) << to_string(shape);
  }
}

TEST(PipelineMessages, FewBuffersArePostedAhead) {
  for (const ScheduleShape& shape : all_shapes()) {
    for (const int posted : peak_receives(make_schedule(shape))) {
      ASSERT_LE(posted, shape.chunks == 1 ? 2 : shape.ranks + 3) << to_string(shape);
    }
  }
}

TEST(PipelineMessages, RefuseCircularWaits) {
  const ScheduleShape shape{ScheduleKind::kGPipe, 2, 1, 1};
  const ActionLists lists{{{kBackward, 0, 0}, {kForward, 0, 0}}, {{kForward, 1, 0}, {kBackward, 1, 0}}};
  EXPECT_THROW(with_messages({shape, lists}), InternalError);
}

}  // namespace
}  // namespace cadre::parallel
