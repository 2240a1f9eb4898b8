#include "kernels/peak.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "kernels/cpu/peak.h"

namespace cadre::kernels {
namespace {

constexpr int kBursts = 5;

// Seconds of `rounds` rounds on every thread at once.
double burst(const Exec& exec, const cpu::PeakTable& table, int64_t rounds) {
  const auto start = std::chrono::steady_clock::now();
  exec.threads.run([&](int) { table.burn(rounds, 0.9375f, 0.0625f); });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double measure_peak_flops(const Exec& exec, double seconds) {
  const cpu::PeakTable& table = CADRE_SIMD_SELECT(exec.isa, kPeakTable);
  const double wanted = std::max(seconds, 1e-4) / (kBursts + 1);
  int64_t rounds = 1000;
  double took = burst(exec, table, rounds);
  while (took < wanted / 2) {
    rounds *= 2;
    took = burst(exec, table, rounds);
  }
  std::array<double, kBursts> times;
  for (double& time : times) time = burst(exec, table, rounds);
  std::sort(times.begin(), times.end());
  const double flops = static_cast<double>(rounds * table.flops_per_round) * exec.threads.size();
  return flops / times[kBursts / 2];
}

}  // namespace cadre::kernels
