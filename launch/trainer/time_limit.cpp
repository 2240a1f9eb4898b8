#include "launch/trainer/time_limit.h"

#include <algorithm>
#include <utility>

namespace cadre::launch {

TimeLimit::TimeLimit(std::optional<int64_t> seconds, std::function<Time()> clock) : clock_(std::move(clock)) {
  if (seconds) end_ = clock_() + std::chrono::seconds(*seconds);
}

void TimeLimit::step_begins() {
  const Time now = clock_();
  if (step_start_) longest_ = std::max(longest_, now - *step_start_);
  step_start_ = now;
}

// The step under way is taken to last as long as the longest, too.
bool TimeLimit::last_step() const {
  if (!end_ || !step_start_) return false;
  return std::max(clock_(), *step_start_ + longest_) + longest_ > *end_;
}

}  // namespace cadre::launch
