#include "parallel/pipeline/validate.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/error.h"
#include "parallel/pipeline/memory.h"
#include "parallel/pipeline/messages.h"

namespace cadre::parallel {
namespace {

using enum ActionKind;

class Validator {
 public:
  explicit Validator(const Schedule& schedule) : schedule_(schedule), shape_(schedule.shape) {}

  std::vector<std::string> run(Transport transport) {
    if (!check_range()) return problems_;
    collect();
    check_complete();
    check_messages();
    check_channels();
    check_gradient_order();
    for (const std::string& line : deadlock(schedule_, Transport::kDirect)) add("circular wait: " + line);
    if (problems_.empty() && transport != Transport::kDirect) {
      for (const std::string& line : deadlock(schedule_, transport)) add("deadlock: " + line);
    }
    check_memory();
    return problems_;
  }

 private:
  struct Place {
    int count = 0;
    size_t first = 0;  // position in its rank's list
  };
  static constexpr size_t kKinds = static_cast<size_t>(kReceiveGradient) + 1;

  void add(std::string problem) { problems_.push_back(std::move(problem)); }

  bool check_range();
  void collect();
  void check_complete();
  void check_backward(const Action& forward);
  void check_messages();
  void check_channels();
  void check_gradient_order();
  void check_memory();

  size_t index_of(const Action& action) const {
    const int pair = action.stage * shape_.micro_batches + action.micro_batch;
    return static_cast<size_t>(pair) * kKinds + static_cast<size_t>(action.kind);
  }
  int count(const Action& action) const { return places_[index_of(action)].count; }
  size_t place(const Action& action) const { return places_[index_of(action)].first; }
  void require_one(const Action& action) {
    if (const int times = count(action); times != 1)
      add(fmt::format("{}: {} times; wanted once", describe(action), times));
  }
  // Says nothing when one of them is missing: that is another problem.
  void require_order(const Action& first, const Action& second) {
    if (count(first) > 0 && count(second) > 0 && place(first) > place(second)) {
      add(fmt::format("pipeline rank {}: {} comes before {}", shape_.rank_of(first.stage), describe(second),
                      describe(first)));
    }
  }

  const Schedule& schedule_;
  const ScheduleShape& shape_;
  std::vector<Place> places_;  // [stage, micro-batch, kind]
  std::vector<std::string> problems_;
};

bool Validator::check_range() {
  if (shape_.ranks < 1 || shape_.chunks < 1 || shape_.micro_batches < 1 ||
      static_cast<int>(schedule_.ranks.size()) != shape_.ranks) {
    add(fmt::format("lists of {} ranks for a shape of {} ranks, {} chunks, {} micro-batches", schedule_.ranks.size(),
                    shape_.ranks, shape_.chunks, shape_.micro_batches));
    return false;
  }
  for (int rank = 0; rank < shape_.ranks; ++rank) {
    for (const Action& action : schedule_.ranks[static_cast<size_t>(rank)]) {
      const int peer = is_compute(action.kind) ? action.stage : other_end(action).stage;
      const bool in_range = action.stage >= 0 && action.stage < shape_.stages() && action.micro_batch >= 0 &&
                            action.micro_batch < shape_.micro_batches && peer >= 0 && peer < shape_.stages();
      if (!in_range) {
        add(fmt::format("pipeline rank {}: {}: not one of {} stages, {} micro-batches", rank, describe(action),
                        shape_.stages(), shape_.micro_batches));
      } else if (shape_.rank_of(action.stage) != rank) {
        add(fmt::format("pipeline rank {}: {}: the stage is on rank {}", rank, describe(action),
                        shape_.rank_of(action.stage)));
      }
    }
  }
  return problems_.empty();
}

void Validator::collect() {
  places_.resize(static_cast<size_t>(shape_.stages()) * static_cast<size_t>(shape_.micro_batches) * kKinds);
  for (const std::vector<Action>& actions : schedule_.ranks) {
    for (size_t i = 0; i < actions.size(); ++i) {
      Place& found = places_[index_of(actions[i])];
      if (found.count++ == 0) found.first = i;
    }
  }
}

void Validator::check_complete() {
  for (int stage = 0; stage < shape_.stages(); ++stage) {
    for (int micro_batch = 0; micro_batch < shape_.micro_batches; ++micro_batch) {
      const Action forward{kForward, stage, micro_batch};
      require_one(forward);
      check_backward(forward);
    }
  }
}

void Validator::check_backward(const Action& forward) {
  const Action whole{kBackward, forward.stage, forward.micro_batch};
  const Action inputs{kBackwardInputs, forward.stage, forward.micro_batch};
  const Action weights{kBackwardWeights, forward.stage, forward.micro_batch};
  require_order(forward, whole);
  require_order(forward, inputs);
  require_order(inputs, weights);
  if (count(inputs) == 0 && count(weights) == 0) return require_one(whole);
  require_one(inputs);
  require_one(weights);
  if (count(whole) > 0) add(fmt::format("{}: whole and in parts; wanted one of them", describe(whole)));
}

void Validator::check_messages() {
  std::vector<bool> implied(places_.size());
  const auto require = [&](const Action& message, const Action& first, const Action& second) {
    const size_t index = index_of(message);
    if (!implied[index]) require_one(message);
    implied[index] = true;
    require_order(first, second);
  };
  for (const std::vector<Action>& actions : schedule_.ranks) {
    for (const Action& action : actions) {
      if (!is_compute(action.kind)) continue;
      if (const auto send = send_after(shape_, action)) require(*send, action, *send);
      if (const auto receive = receive_before(shape_, action)) require(*receive, *receive, action);
    }
  }
  for (const std::vector<Action>& actions : schedule_.ranks) {
    for (const Action& action : actions) {
      if (is_compute(action.kind) || implied[index_of(action)]) continue;
      add(describe(action) + ": no action needs this message");
    }
  }
}

void Validator::check_channels() {
  std::map<std::pair<int, int>, std::pair<std::vector<Action>, std::vector<Action>>> channels;  // sends of both ends
  for (int rank = 0; rank < shape_.ranks; ++rank) {
    for (const Action& action : schedule_.ranks[static_cast<size_t>(rank)]) {
      if (is_compute(action.kind)) continue;
      const int peer = shape_.rank_of(other_end(action).stage);
      if (is_send(action.kind)) channels[{rank, peer}].first.push_back(action);
      if (is_receive(action.kind)) channels[{peer, rank}].second.push_back(other_end(action));
    }
  }
  for (const auto& [ranks, ends] : channels) {
    const auto& [sent, received] = ends;
    for (size_t i = 0; i < std::min(sent.size(), received.size()); ++i) {
      if (sent[i] == received[i]) continue;
      add(fmt::format("message {} from pipeline rank {} to {}: sent is {}, but received is {}", i, ranks.first,
                      ranks.second, describe(sent[i]), describe(received[i])));
      break;
    }
  }
}

void Validator::check_gradient_order() {
  std::vector<int> last(static_cast<size_t>(shape_.stages()), -1);
  for (const std::vector<Action>& actions : schedule_.ranks) {
    for (const Action& action : actions) {
      if (action.kind != kBackward && action.kind != kBackwardWeights) continue;
      int& before = last[static_cast<size_t>(action.stage)];
      if (action.micro_batch < before) {
        add(fmt::format("{} comes after that of micro-batch {}; wanted ascending ones", describe(action), before));
      }
      before = action.micro_batch;
    }
  }
}

void Validator::check_memory() {
  const std::vector<int> peaks = peak_activations(schedule_);
  for (int rank = 0; rank < shape_.ranks; ++rank) {
    const int peak = peaks[static_cast<size_t>(rank)], bound = activation_bound(shape_, rank);
    if (peak > bound) {
      add(fmt::format("pipeline rank {}: activations of {} stages and micro-batches held at once; {} promises {}", rank,
                      peak, config::enum_name(shape_.kind), bound));
    }
  }
}

}  // namespace

std::vector<std::string> problems(const Schedule& schedule, Transport transport) {
  return Validator(schedule).run(transport);
}

void require_valid(const Schedule& schedule, Transport transport) {
  const std::vector<std::string> found = problems(schedule, transport);
  if (found.empty()) return;
  throw InternalError(fmt::format("pipeline schedule {}: {}{}", config::enum_name(schedule.shape.kind), found.front(),
                                  found.size() > 1 ? fmt::format(" (and {} more)", found.size() - 1) : ""));
}

}  // namespace cadre::parallel
