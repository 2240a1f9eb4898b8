#pragma once
// Whether another step still fits into the time that a run may take.

#include <chrono>
#include <functional>
#include <optional>

namespace cadre::launch {

class TimeLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Counts from now on. Without a limit every step fits. `clock` is for tests.
  explicit TimeLimit(std::optional<int64_t> seconds, std::function<Time()> clock = std::chrono::steady_clock::now);

  // Between steps, everything that belongs to the one before (its metrics, a checkpoint) being done.
  void step_begins();
  // For the vote that ranks take at the end of the step under way: true when another step would end too late, judged by
  // the longest so far. The save that then follows is not counted.
  bool last_step() const;

 private:
  std::function<Time()> clock_;
  std::optional<Time> end_;
  std::optional<Time> step_start_;
  std::chrono::steady_clock::duration longest_{0};
};

}  // namespace cadre::launch
