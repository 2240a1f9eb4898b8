#pragma once
// How long a rank has waited for others.

#include <chrono>

#include "parallel/comm/progress.h"

namespace cadre::parallel {

// Time in which its process did not look does not count when that was longer than kSilentSeconds: it was stopped, as
// when Slurm suspends a job, or computed; what the others did meanwhile it has yet to see.
class WaitClock {
 public:
  using Duration = std::chrono::duration<double>;

  // Waited since it was made.
  Duration look() { return look_at(std::chrono::steady_clock::now()); }
  Duration look_at(std::chrono::steady_clock::time_point now) {
    const Duration unseen = now - last_;
    last_ = now;
    if (unseen.count() <= kSilentSeconds) waited_ += unseen;
    return waited_;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  Duration waited_{0};
};

}  // namespace cadre::parallel
