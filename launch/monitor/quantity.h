#pragma once
// Numbers for people, and numbers that several sinks derive from a step.

#include <cstdint>
#include <string>

#include "launch/monitor/observer.h"

namespace cadre::launch {

// 12345.6 -> "12.3k", 1.06e6 -> "1.06M": three digits and a power of 1000.
std::string count_text(double count);
// 1288490188 -> "1.2 GiB"
std::string bytes_text(uint64_t bytes);
// 59 -> "59 s", 205 -> "3:25", 3723 -> "1:02:03", 183840 -> "2d 03:04"; "?" when not finite or negative.
std::string duration_text(double seconds);

// tokens_per_second * flops_per_token / peak; NaN when one of them is unknown.
double share_of_peak(double tokens_per_second, const RunInfo& info);

// Rates over roughly the last 20 steps.
class RateMeter {
 public:
  void add(int64_t tokens, double seconds);
  double tokens_per_second() const { return tokens_ / seconds_; }
  double seconds_per_step() const { return seconds_ / steps_; }

 private:
  double tokens_ = 0, seconds_ = 0, steps_ = 0;  // exponentially decayed sums
};

}  // namespace cadre::launch
