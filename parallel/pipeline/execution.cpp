#include "parallel/pipeline/execution.h"

#include <fmt/core.h>

#include <algorithm>

#include "parallel/pipeline/messages.h"

namespace cadre::parallel {

Execution::Execution(const Schedule& schedule, const Costs& costs, Transport transport)
    : schedule_(schedule),
      costs_(costs),
      transport_(transport),
      ranks_(schedule.ranks.size()),
      timed_(schedule.ranks.size()) {
  const size_t pairs = static_cast<size_t>(schedule.shape.stages()) * static_cast<size_t>(schedule.shape.micro_batches);
  forward_end_.resize(pairs);
  gradient_end_.resize(pairs);
  activations_.resize(pairs, {-1, 0});
  gradients_.resize(pairs, {-1, 0});
}

void Execution::run() {
  for (bool progress = true; progress;) {
    progress = false;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      while (step(rank)) progress = true;
    }
  }
}

bool Execution::step(size_t rank) {
  const std::vector<Action>& actions = schedule_.ranks[rank];
  if (ranks_[rank].next == actions.size()) return false;
  const Action& action = actions[ranks_[rank].next];
  if (!(is_compute(action.kind) ? compute(rank, action) : communicate(rank, action))) return false;
  ++ranks_[rank].next;
  return true;
}

bool Execution::compute(size_t rank, const Action& action) {
  const Time data = ready(action);
  if (!data) return false;
  const double start = std::max(ranks_[rank].time, *data), end = start + costs_.of(action);
  timed_[rank].push_back({action, start, end});
  ranks_[rank].time = end;
  if (action.kind == ActionKind::kForward) forward_end_[pair_of(action)] = end;
  if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardInputs) {
    gradient_end_[pair_of(action)] = end;
  }
  return true;
}

Execution::Time Execution::ready(const Action& action) const {
  const int stage = action.stage;
  if (action.kind == ActionKind::kBackwardWeights) return gradient_end_[pair_of(action)];
  if (action.kind == ActionKind::kForward) {
    return stage == 0 ? Time(0) : arrival(action, forward_end_[pair_of(action, -1)]);
  }
  const Time forward = forward_end_[pair_of(action)];
  if (stage == schedule_.shape.stages() - 1 || !forward) return forward;
  const Time gradient = arrival(action, gradient_end_[pair_of(action, 1)]);
  return gradient ? Time(std::max(*forward, *gradient)) : gradient;
}

// When the neighbour's data is here, produced at this time.
Execution::Time Execution::arrival(const Action& action, Time produced) const {
  const std::optional<Action> receive = receive_before(schedule_.shape, action);
  if (!receive) return produced;
  if (transport_ == Transport::kDirect) return produced ? Time(*produced + costs_.of(*receive)) : produced;
  const bool forward = action.kind == ActionKind::kForward;
  const auto [channel, index] = (forward ? activations_ : gradients_)[pair_of(action)];
  return channel < 0 ? Time() : channels_.at(channel).messages[index].end;
}

bool Execution::communicate(size_t rank, const Action& action) {
  if (transport_ == Transport::kDirect) return true;
  Rank& state = ranks_[rank];
  if (!state.reached) enter(rank, action);
  const Time end = channels_.at(state.last.first).messages[state.last.second].end;
  const bool blocks =
      transport_ == Transport::kRendezvous || (transport_ == Transport::kBuffered && is_receive(action.kind));
  state.reached = blocks && !end;
  if (state.reached) return false;
  if (blocks) state.time = std::max(state.time, *end);
  return true;
}

// Puts this end of a message into its channel.
void Execution::enter(size_t rank, const Action& action) {
  const int here = static_cast<int>(rank), there = schedule_.shape.rank_of(other_end(action).stage);
  const bool send = is_send(action.kind);
  const int key = (send ? here : there) * schedule_.shape.ranks + (send ? there : here);
  Channel& channel = channels_[key];
  const size_t index = send ? channel.sends++ : channel.receives++;
  if (channel.messages.size() <= index) channel.messages.resize(index + 1);
  Message& message = channel.messages[index];
  (send ? message.send : message.receive) = Place{rank, timed_[rank].size()};
  timed_[rank].push_back({action, ranks_[rank].time, ranks_[rank].time});
  ranks_[rank].last = {key, index};
  if (action.kind == ActionKind::kReceiveActivation) activations_[pair_of(action)] = {key, index};
  if (action.kind == ActionKind::kReceiveGradient) gradients_[pair_of(action)] = {key, index};
  try_start(channel, message);
}

// Earlier messages of the channel have started: both of their ends came before.
void Execution::try_start(Channel& channel, Message& message) {
  const bool buffered = transport_ == Transport::kBuffered;
  if (message.send && (message.receive || buffered) && !message.end) {
    const TimedAction& send = timed_[message.send->rank][message.send->index];
    double start = std::max(channel.free, send.start);
    if (!buffered) start = std::max(start, timed_[message.receive->rank][message.receive->index].start);
    message.end = channel.free = start + costs_.of(send.action);
  }
  if (!message.end) return;
  if (message.send) timed_[message.send->rank][message.send->index].end = *message.end;
  if (message.receive) timed_[message.receive->rank][message.receive->index].end = *message.end;
}

std::vector<std::string> Execution::stuck() const {
  std::vector<std::string> lines;
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    const std::vector<Action>& actions = schedule_.ranks[rank];
    const size_t next = ranks_[rank].next;
    if (next == actions.size()) continue;
    lines.push_back(fmt::format("pipeline rank {} waits at action {} of {}: {}", rank, next, actions.size(),
                                describe(actions[next])));
  }
  return lines;
}

Timeline Execution::timeline() const {
  Timeline timeline;
  timeline.ranks = timed_;
  for (const std::vector<TimedAction>& actions : timed_) {
    double busy = 0;
    for (const TimedAction& timed : actions) {
      if (is_compute(timed.action.kind)) busy += timed.end - timed.start;
      timeline.makespan = std::max(timeline.makespan, timed.end);
    }
    timeline.busy.push_back(busy);
  }
  return timeline;
}

size_t Execution::pair_of(const Action& action, int neighbour) const {
  return static_cast<size_t>((action.stage + neighbour) * schedule_.shape.micro_batches + action.micro_batch);
}

}  // namespace cadre::parallel
