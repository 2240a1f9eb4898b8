#include "parallel/pipeline/validate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.h"
#include "parallel/pipeline/generators.h"
#include "parallel/pipeline/messages.h"
#include "tests/parallel/pipeline/shapes.h"

namespace cadre::parallel {
namespace {

using enum ActionKind;

Schedule sound() { return make_schedule({ScheduleKind::k1F1B, 3, 1, 4}); }

std::vector<Action>& list_of(Schedule& schedule, const Action& action) {
  return schedule.ranks[static_cast<size_t>(schedule.shape.rank_of(action.stage))];
}
auto find(Schedule& schedule, const Action& action) {
  std::vector<Action>& list = list_of(schedule, action);
  const auto found = std::find(list.begin(), list.end(), action);
  EXPECT_NE(found, list.end()) << describe(action);
  return found;
}
void erase(Schedule& schedule, const Action& action) { list_of(schedule, action).erase(find(schedule, action)); }
void swap(Schedule& schedule, const Action& a, const Action& b) {
  std::iter_swap(find(schedule, a), find(schedule, b));
}

// Some problem contains this text.
void expect_problem(const Schedule& schedule, const std::string& text) {
  const std::vector<std::string> found = problems(schedule);
  const bool any = std::any_of(found.begin(), found.end(), [&](const auto& p) { return p.find(text) != p.npos; });
  EXPECT_TRUE(any) << "wanted: " << text << "\ngot " << found.size() << ": " << (found.empty() ? "" : found.front());
  EXPECT_THROW(require_valid(schedule), InternalError);
}

TEST(PipelineValidate, SoundSchedulesPass) {
  EXPECT_TRUE(problems(sound()).empty());
  EXPECT_NO_THROW(require_valid(sound()));
}

TEST(PipelineValidate, SwappedActions) {
  Schedule schedule = sound();
  swap(schedule, {kForward, 2, 1}, {kBackward, 2, 1});
  expect_problem(schedule, "backward of micro-batch 1, stage 2 comes before forward of micro-batch 1, stage 2");

  schedule = make_schedule({ScheduleKind::kZeroBubble, 3, 1, 4});
  swap(schedule, {kBackwardInputs, 1, 2}, {kBackwardWeights, 1, 2});
  expect_problem(schedule, "backward (weights) of micro-batch 2, stage 1 comes before backward (inputs)");
}

TEST(PipelineValidate, MissingActions) {
  Schedule schedule = sound();
  erase(schedule, {kSendActivation, 1, 2});
  expect_problem(schedule, "send of the activation of micro-batch 2, stage 1: 0 times; wanted once");

  schedule = sound();
  erase(schedule, {kReceiveGradient, 0, 3});
  expect_problem(schedule, "receive of the gradient of micro-batch 3, stage 0: 0 times; wanted once");

  schedule = sound();
  erase(schedule, {kForward, 0, 3});
  expect_problem(schedule, "forward of micro-batch 3, stage 0: 0 times; wanted once");
  expect_problem(schedule, "send of the activation of micro-batch 3, stage 0: no action needs this message");

  schedule = make_schedule({ScheduleKind::kZeroBubble, 3, 1, 4});
  erase(schedule, {kBackwardWeights, 2, 3});
  expect_problem(schedule, "backward (weights) of micro-batch 3, stage 2: 0 times; wanted once");
}

TEST(PipelineValidate, DoubledActions) {
  Schedule schedule = sound();
  schedule.ranks[1].push_back({kBackward, 1, 2});
  expect_problem(schedule, "backward of micro-batch 2, stage 1: 2 times; wanted once");

  schedule = sound();
  schedule.ranks[1].push_back({kBackwardInputs, 1, 2});
  schedule.ranks[1].push_back({kBackwardWeights, 1, 2});
  expect_problem(schedule, "backward of micro-batch 2, stage 1: whole and in parts");

  schedule = sound();
  schedule.ranks[0].push_back({kSendActivation, 0, 0});
  expect_problem(schedule, "send of the activation of micro-batch 0, stage 0: 2 times");
}

TEST(PipelineValidate, ReceivesInTheWrongOrder) {
  Schedule schedule = sound();
  swap(schedule, {kReceiveActivation, 1, 0}, {kReceiveActivation, 1, 1});
  expect_problem(schedule, "from pipeline rank 0 to 1: sent is send of the activation of micro-batch 0, stage 0, but");

  schedule = sound();
  std::vector<Action>& list = schedule.ranks[1];
  const Action late{kReceiveActivation, 1, 3};
  erase(schedule, late);
  list.push_back(late);
  expect_problem(schedule, "forward of micro-batch 3, stage 1 comes before receive of the activation");
}

TEST(PipelineValidate, CircularWaits) {
  // Each rank is in order by itself, but rank 0 wants the gradient of micro-batch 0 before it sends micro-batch 1, and
  // rank 1 wants micro-batch 1 before it sends that gradient.
  const ScheduleShape shape{ScheduleKind::kGPipe, 2, 1, 2};
  const auto forward = [](int stage, int i) { return Action{kForward, stage, i}; };
  const auto backward = [](int stage, int i) { return Action{kBackward, stage, i}; };
  Schedule schedule{shape, {{}, {}}};
  schedule.ranks[0] = {forward(0, 0), {kSendActivation, 0, 0}, {kReceiveGradient, 0, 0}, backward(0, 0),
                       forward(0, 1), {kSendActivation, 0, 1}, {kReceiveGradient, 0, 1}, backward(0, 1)};
  schedule.ranks[1] = {
      {kReceiveActivation, 1, 0}, forward(1, 0),  {kReceiveActivation, 1, 1}, forward(1, 1), backward(1, 0),
      {kSendGradient, 1, 0},      backward(1, 1), {kSendGradient, 1, 1}};
  expect_problem(schedule, "circular wait: pipeline rank 0 waits at action 3 of 8: backward of micro-batch 0, stage 0");
}

// Sends before receives everywhere: only blocking calls without buffers deadlock.
TEST(PipelineValidate, DeadlockDependsOnTheTransport) {
  const ScheduleShape shape{ScheduleKind::k1F1B, 2, 1, 2};
  Schedule schedule{shape, {{}, {}}};
  const ActionLists compute = compute_actions(shape);
  for (size_t rank = 0; rank < 2; ++rank) {
    for (const Action& action : compute[rank]) {
      if (const auto receive = receive_before(shape, action)) schedule.ranks[rank].push_back(*receive);
      schedule.ranks[rank].push_back(action);
      if (const auto send = send_after(shape, action)) schedule.ranks[rank].push_back(*send);
    }
  }
  EXPECT_TRUE(problems(schedule, Transport::kNonblocking).empty());
  EXPECT_TRUE(problems(schedule, Transport::kBuffered).empty());
  expect_problem(schedule, "deadlock: pipeline rank 0 waits at action 3 of 8: send of the activation of micro-batch 1");
  EXPECT_THROW(simulate(schedule, Costs::uniform(2, 1, 1, 1), Transport::kRendezvous), InternalError);
}

TEST(PipelineValidate, TooMuchMemory) {
  Schedule schedule = make_schedule({ScheduleKind::kGPipe, 2, 1, 4});
  schedule.shape.kind = ScheduleKind::k1F1B;
  expect_problem(schedule, "pipeline rank 0: activations of 4 stages and micro-batches held at once; 1f1b promises 2");
}

TEST(PipelineValidate, GradientsInAnotherOrder) {
  const ScheduleShape shape{ScheduleKind::kGPipe, 1, 1, 2};
  const Schedule schedule{shape, {{{kForward, 0, 0}, {kForward, 0, 1}, {kBackward, 0, 1}, {kBackward, 0, 0}}}};
  expect_problem(schedule, "backward of micro-batch 0, stage 0 comes after that of micro-batch 1");
}

TEST(PipelineValidate, ActionsOutOfRange) {
  Schedule schedule = sound();
  schedule.ranks[0].push_back({kForward, 3, 0});
  expect_problem(schedule, "not one of 3 stages, 4 micro-batches");
  schedule = sound();
  schedule.ranks[0].push_back({kForward, 0, 4});
  expect_problem(schedule, "not one of 3 stages, 4 micro-batches");
  schedule = sound();
  schedule.ranks[2].push_back({kSendActivation, 2, 0});  // nobody is behind the last stage
  expect_problem(schedule, "not one of 3 stages");
  schedule = sound();
  std::swap(schedule.ranks[0], schedule.ranks[1]);
  expect_problem(schedule, "the stage is on rank");
  schedule = sound();
  schedule.ranks.pop_back();
  expect_problem(schedule, "lists of 2 ranks");
}

// Whatever single action is lost, doubled, or exchanged with another kind of its list's neighbour, is noticed or
// harmless: when the validator is content, the schedule runs with every transport.
TEST(PipelineValidate, RandomDamage) {
  Rng rng(7, RngPurpose::kTest);
  const std::vector<ScheduleShape> shapes = all_shapes();
  for (int draw = 0; draw < 600; ++draw) {
    Schedule schedule = make_schedule(shapes[rng.below(shapes.size())]);
    std::vector<Action>& list = schedule.ranks[rng.below(schedule.ranks.size())];
    const size_t i = rng.below(list.size());
    const auto at = list.begin() + static_cast<std::ptrdiff_t>(i);
    const uint64_t damage = rng.below(3);
    if (damage == 0) list.erase(at);
    if (damage == 1) list.insert(at, *at);
    if (damage < 2) {
      EXPECT_FALSE(problems(schedule).empty()) << to_string(schedule.shape) << " action " << i;
      continue;
    }
    std::swap(list[i], list[rng.below(list.size())]);
    if (!problems(schedule).empty()) continue;
    for (const Transport transport : {Transport::kNonblocking, Transport::kBuffered, Transport::kRendezvous}) {
      EXPECT_TRUE(deadlock(schedule, transport).empty()) << to_string(schedule.shape);
    }
  }
}

}  // namespace
}  // namespace cadre::parallel
