#pragma once
// Where the time goes, by op and direction. Filled by the op funnel when a Context has one.

#include <cstdint>
#include <map>
#include <string>

namespace cadre::autograd {

enum class Phase { kForward, kInputGradients, kParameterGradients, kRecompute };

struct OpTime {
  Phase phase = Phase::kForward;
  int64_t calls = 0;
  double seconds = 0;
  double flops = 0;
  double bytes = 0;
};

class Profiler {
 public:
  void add(const char* op, Phase phase, double seconds, double flops, double bytes);
  void clear() { times_.clear(); }
  // Table sorted by time: op, calls, ms, share, GFLOP/s, GB/s.
  std::string table() const;
  // By op and direction: "grouped_linear", "grouped_linear.dx", "grouped_linear.dw", "grouped_linear.recompute".
  const std::map<std::string, OpTime>& times() const { return times_; }

 private:
  std::map<std::string, OpTime> times_;
};

}  // namespace cadre::autograd
