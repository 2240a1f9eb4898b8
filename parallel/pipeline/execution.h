#pragma once
// One run of a schedule in virtual time: the engine behind simulate() and deadlock().

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "parallel/pipeline/simulate.h"

namespace cadre::parallel {

// Actions run as soon as their rank came to them and their data is there, so times do not depend on the order in which
// ranks are looked at.
class Execution {
 public:
  Execution(const Schedule& schedule, const Costs& costs, Transport transport);

  // Runs until no rank can go on.
  void run();
  std::vector<std::string> stuck() const;  // one line for each rank that has not finished
  // Of the actions that ran; without memory figures.
  Timeline timeline() const;

 private:
  using Time = std::optional<double>;  // none: has not happened
  struct Place {
    size_t rank, index;  // in timed_
  };
  struct Message {
    std::optional<Place> send, receive;  // once reached
    Time end;
  };
  struct Channel {
    std::vector<Message> messages;  // the i-th send meets the i-th receive
    size_t sends = 0, receives = 0;
    double free = 0;  // end of the last message
  };
  struct Rank {
    double time = 0;
    size_t next = 0;              // action
    bool reached = false;         // the next action, a message, is in its channel and the rank waits for it
    std::pair<int, size_t> last;  // channel and message of that
  };

  bool step(size_t rank);
  bool compute(size_t rank, const Action& action);
  bool communicate(size_t rank, const Action& action);
  void enter(size_t rank, const Action& action);
  void try_start(Channel& channel, Message& message);
  Time ready(const Action& action) const;
  Time arrival(const Action& action, Time produced) const;

  // Into the vectors below; the stage may be a neighbour of the action's.
  size_t pair_of(const Action& action, int neighbour = 0) const;

  const Schedule& schedule_;
  const Costs& costs_;
  Transport transport_;
  std::vector<Rank> ranks_;
  std::vector<std::vector<TimedAction>> timed_;
  std::map<int, Channel> channels_;                              // from * ranks + to
  std::vector<Time> forward_end_, gradient_end_;                 // [stage, micro-batch]
  std::vector<std::pair<int, size_t>> activations_, gradients_;  // the message that each one came by; -1: none yet
};

}  // namespace cadre::parallel
