#pragma once
// Operations on experts in the course of training: moe.events at work.

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "launch/experts/choice.h"

namespace cadre::launch {

// What `when` knows of a finished step; the same on every rank.
struct StepFacts {
  int64_t step = 1, steps = 1;  // of the run
  double loss = 0;
  double validation_loss = 0;  // the last one
};

class ExpertEvents {
 public:
  // Throws ExpertLayoutError naming the key when a selector or an expression is none.
  ExpertEvents(std::vector<model::ExpertEventSettings> events, const model::ExpertLayout& layout);

  bool empty() const { return events_.empty(); }
  size_t size() const { return events_.size(); }
  const model::ExpertEventSettings& event(size_t index) const { return events_[index]; }
  // Throws ExpertLayoutError naming the key.
  bool due(size_t index, const StepFacts& facts) const;
  void fired(size_t index) { ++fired_[index]; }
  // Some depend on the held-out loss, which must then not be left out in a hurry.
  bool ask_for_validation() const;

  // For checkpoints: how often each has been there. Of events that are not among those of the config nothing is kept.
  nlohmann::json state() const;
  void restore(const nlohmann::json& state);

 private:
  std::vector<std::string> keys() const;

  std::vector<model::ExpertEventSettings> events_;
  std::vector<int64_t> fired_;
};

}  // namespace cadre::launch
