#include "parallel/pipeline/simulate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "core/error.h"
#include "tests/parallel/pipeline/shapes.h"

namespace cadre::parallel {
namespace {

// The whole model on a rank takes F, I, W, whatever the number of its chunks.
Timeline equal_stages(const ScheduleShape& shape, double f, double i, double w) {
  return simulate(make_schedule(shape),
                  Costs::uniform(shape.stages(), f / shape.chunks, i / shape.chunks, w / shape.chunks));
}

TEST(PipelineSimulate, BubblesAreThoseOfThePapers) {
  for (const ScheduleShape& shape : all_shapes()) {
    const double p = shape.ranks, v = shape.chunks, m = shape.micro_batches;
    double bubble = (p - 1) / (v * m + p - 1);
    if (shape.kind == ScheduleKind::kZeroBubble) bubble = (p - 1) / (3 * m + p - 1);
    if ((v > 1 || shape.kind == ScheduleKind::kZeroBubble) && m < p) continue;
    const Timeline timeline = equal_stages(shape, 1, 1, 1);
    ASSERT_NEAR(timeline.bubble(), bubble, 1e-12) << to_string(shape);
    ASSERT_NEAR(timeline.bubble(0), bubble, 1e-12) << to_string(shape);
  }
}

TEST(PipelineSimulate, ZeroBubbleIdlesAsPredicted) {
  for (const auto& [f, i, w] : {std::tuple{1.0, 1.0, 1.0},
                                {1.0, 1.2, 0.8},
                                {1.0, 1.0, 0.5},
                                {2.0, 1.0, 1.0},
                                {1.0, 0.8, 1.2},
                                {0.5, 1.0, 1.0}}) {
    for (const int p : {2, 3, 4, 8}) {
      for (const int m : {p, 2 * p, 2 * p + 1}) {
        const double idle = equal_stages({ScheduleKind::kZeroBubble, p, 1, m}, f, i, w).makespan - m * (f + i + w);
        EXPECT_NEAR(idle, (p - 1) * std::max({f, i, f + i - w}), 1e-9);
        EXPECT_LT(idle, (p - 1) * (f + i + w) - 1e-9);  // 1F1B's
      }
    }
  }
}

TEST(PipelineSimulate, InterleavedAndZeroBubbleBeat1F1B) {
  for (const ScheduleShape& shape : all_shapes()) {
    const bool interleaved = shape.kind == ScheduleKind::kInterleaved && shape.chunks > 1;
    if (shape.ranks == 1 || (!interleaved && shape.kind != ScheduleKind::kZeroBubble)) continue;
    const double mine = equal_stages(shape, 1, 1, 1).makespan;
    const double theirs = equal_stages({ScheduleKind::k1F1B, shape.ranks, 1, shape.micro_batches}, 1, 1, 1).makespan;
    // One micro-batch passes through all stages once, whatever their order.
    if (interleaved && shape.micro_batches == 1) {
      ASSERT_NEAR(mine, theirs, 1e-9) << to_string(shape);
    } else {
      ASSERT_LT(mine, theirs - 1e-9) << to_string(shape);
    }
  }
}

TEST(PipelineSimulate, HandComputed) {
  const Schedule schedule = make_schedule({ScheduleKind::k1F1B, 2, 1, 1});
  const Costs costs{{{1, 20, 0, 0, 0.5, 0}, {2, 4, 0, 0, 0, 0.25}}};
  const Timeline timeline = simulate(schedule, costs);
  // forward 1, message 0.5, forward 2, backward 4, message 0.25, backward 20
  EXPECT_DOUBLE_EQ(timeline.makespan, 27.75);
  EXPECT_EQ(timeline.busy, (std::vector<double>{21, 6}));
  EXPECT_DOUBLE_EQ(timeline.bubble(1), 1 - 6 / 27.75);
  EXPECT_DOUBLE_EQ(timeline.bubble(), 1 - 27 / (2 * 27.75));
  EXPECT_EQ(timeline.peak_activations, (std::vector{1, 1}));
  const TimedAction& last = timeline.ranks[0].back();
  EXPECT_EQ(last.action, (Action{ActionKind::kBackward, 0, 0}));
  EXPECT_DOUBLE_EQ(last.start, 7.75);
}

// Two micro-batches through two stages, receives right before their use; computing takes 1, a message 2.
TEST(PipelineSimulate, TransportsDiffer) {
  using enum ActionKind;
  Schedule schedule{{ScheduleKind::kGPipe, 2, 1, 2}, {{}, {}}};
  schedule.ranks[0] = {{kForward, 0, 0},         {kSendActivation, 0, 0},  {kForward, 0, 1},
                       {kSendActivation, 0, 1},  {kReceiveGradient, 0, 0}, {kBackward, 0, 0},
                       {kReceiveGradient, 0, 1}, {kBackward, 0, 1}};
  schedule.ranks[1] = {{kReceiveActivation, 1, 0}, {kForward, 1, 0},     {kReceiveActivation, 1, 1},
                       {kForward, 1, 1},           {kBackward, 1, 0},    {kSendGradient, 1, 0},
                       {kBackward, 1, 1},          {kSendGradient, 1, 1}};
  const Costs costs = Costs::uniform(2, 1, 0.5, 0.5, 2);
  const auto makespan = [&](Transport transport) { return simulate(schedule, costs, transport).makespan; };
  EXPECT_DOUBLE_EQ(makespan(Transport::kDirect), 10);
  EXPECT_DOUBLE_EQ(makespan(Transport::kBuffered), 12);
  EXPECT_DOUBLE_EQ(makespan(Transport::kNonblocking), 14);
  EXPECT_DOUBLE_EQ(makespan(Transport::kRendezvous), 14);
  // The second forward, third in the list, waits for the first one's message only where sends block.
  EXPECT_DOUBLE_EQ(simulate(schedule, costs, Transport::kNonblocking).ranks[0][2].start, 1);
  EXPECT_DOUBLE_EQ(simulate(schedule, costs, Transport::kRendezvous).ranks[0][2].start, 3);
  EXPECT_DOUBLE_EQ(simulate(schedule, costs, Transport::kNonblocking).ranks[0][1].end, 3);  // the send
}

// Messages of one channel follow one another: three of length 4 behind forwards of length 1.
TEST(PipelineSimulate, SlowLinksAreTheBottleneck) {
  const Schedule schedule = make_schedule({ScheduleKind::kGPipe, 2, 1, 3});
  const Costs costs{{{1, 1, 0, 0, 4, 0}, {1, 1, 0, 0, 0, 0}}};
  const Timeline timeline = simulate(schedule, costs);
  double last_forward = 0;
  for (const TimedAction& timed : timeline.ranks[1]) {
    if (timed.action == Action{ActionKind::kForward, 1, 2}) last_forward = timed.start;
  }
  EXPECT_DOUBLE_EQ(last_forward, 1 + 3 * 4);
}

// No action starts before its rank is free and its data is there; nothing is faster than the busiest rank.
TEST(PipelineSimulate, RandomCostsKeepDependencies) {
  Rng rng(11, RngPurpose::kTest);
  const std::vector<ScheduleShape> shapes = all_shapes();
  for (int draw = 0; draw < 300; ++draw) {
    const ScheduleShape& shape = shapes[rng.below(shapes.size())];
    const Costs costs = random_costs(shape.stages(), rng);
    const Timeline timeline = simulate(make_schedule(shape), costs);
    std::map<std::tuple<bool, int, int>, double> ends;  // forward?
    const auto forward = [](const Action& action) { return action.kind == ActionKind::kForward; };
    for (const auto& list : timeline.ranks) {
      double free = 0;
      for (const TimedAction& timed : list) {
        if (!is_compute(timed.action.kind)) continue;
        ASSERT_GE(timed.start, free);
        ASSERT_NEAR(timed.end - timed.start, costs.of(timed.action), 1e-9);
        free = timed.end;
        if (timed.action.kind == ActionKind::kBackwardWeights) continue;
        ends[{forward(timed.action), timed.action.stage, timed.action.micro_batch}] = timed.end;
      }
    }
    for (const auto& list : timeline.ranks) {
      for (const TimedAction& timed : list) {
        const Action& action = timed.action;
        if (!is_compute(action.kind) || action.kind == ActionKind::kBackwardWeights) continue;
        const int before = action.stage + (forward(action) ? -1 : 1);
        if (before < 0 || before == shape.stages()) continue;
        const StageCosts& source = costs.stages[static_cast<size_t>(before)];
        const double message = forward(action) ? source.send_activation : source.send_gradient;
        const double data = ends[{forward(action), before, action.micro_batch}] + (shape.ranks > 1 ? message : 0);
        ASSERT_GE(timed.start, data - 1e-9) << to_string(shape);
      }
    }
    ASSERT_GE(timeline.makespan, *std::max_element(timeline.busy.begin(), timeline.busy.end()));
    ASSERT_GE(timeline.bubble(), 0);
  }
}

TEST(PipelineSimulate, WaitingMoreIsNeverFaster) {
  Rng rng(12, RngPurpose::kTest);
  const std::vector<ScheduleShape> shapes = all_shapes();
  for (int draw = 0; draw < 200; ++draw) {
    const Schedule schedule = make_schedule(shapes[rng.below(shapes.size())]);
    const Costs costs = random_costs(schedule.shape.stages(), rng);
    const double direct = simulate(schedule, costs, Transport::kDirect).makespan;
    const double nonblocking = simulate(schedule, costs, Transport::kNonblocking).makespan;
    const double buffered = simulate(schedule, costs, Transport::kBuffered).makespan;
    const double rendezvous = simulate(schedule, costs, Transport::kRendezvous).makespan;
    ASSERT_LE(direct, nonblocking + 1e-9);
    ASSERT_LE(direct, buffered + 1e-9);
    ASSERT_LE(nonblocking, rendezvous + 1e-9);
    ASSERT_LE(buffered, rendezvous + 1e-9);
  }
}

TEST(PipelineSimulate, RefusesCostsOfOtherStages) {
  EXPECT_THROW(simulate(make_schedule({ScheduleKind::k1F1B, 2, 1, 1}), Costs::uniform(3, 1, 1, 1)), InternalError);
}

}  // namespace
}  // namespace cadre::parallel
