#include "autograd/profiler.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

namespace cadre::autograd {
namespace {

const char* suffix(Phase phase) {
  switch (phase) {
    case Phase::kForward: return "";
    case Phase::kInputGradients: return ".dx";
    case Phase::kParameterGradients: return ".dw";
    case Phase::kRecompute: return ".recompute";
  }
  return "";
}

}  // namespace

void Profiler::add(const char* op, Phase phase, double seconds, double flops, double bytes) {
  OpTime& time = times_[std::string(op) + suffix(phase)];
  time.phase = phase;
  ++time.calls;
  time.seconds += seconds;
  time.flops += flops;
  time.bytes += bytes;
}

std::string Profiler::table() const {
  std::vector<std::pair<std::string, OpTime>> rows(times_.begin(), times_.end());
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  double total = 0;
  for (const auto& row : rows) total += row.second.seconds;
  std::string text =
      fmt::format("{:<28}{:>8}{:>11}{:>8}{:>11}{:>9}\n", "op", "calls", "ms", "share", "GFLOP/s", "GB/s");
  for (const auto& [name, time] : rows) {
    text += fmt::format("{:<28}{:>8}{:>11.2f}{:>7.1f}%{:>11.1f}{:>9.1f}\n", name, time.calls, 1e3 * time.seconds,
                        100 * time.seconds / total, 1e-9 * time.flops / time.seconds, 1e-9 * time.bytes / time.seconds);
  }
  return text;
}

}  // namespace cadre::autograd
