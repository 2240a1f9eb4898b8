#pragma once
// The FP32 peak of the machine, measured: what shares of peak are shares of.

#include <time.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/exec.h"

namespace cadre::bench {

// One thread is timed by its own CPU clock, which does not run while others have the core; more by the wall.
class Clock {
 public:
  explicit Clock(int threads) : clock_(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC) {}
  double now() const {
    timespec time{};
    clock_gettime(clock_, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

 private:
  clockid_t clock_;
};

// ---- FP32 peak: independent FMA chains that fill both pipes.

#if defined(CADRE_X86)
#define CADRE_FMA_CHAINS(reg)                                                                        \
  "vfmadd231ps %%" reg "14, %%" reg "15, %%" reg "0\n\tvfmadd231ps %%" reg "14, %%" reg "15, %%" reg \
  "1\n\t"                                                                                            \
  "vfmadd231ps %%" reg "14, %%" reg "15, %%" reg "2\n\tvfmadd231ps %%" reg "14, %%" reg "15, %%" reg \
  "3\n\t"                                                                                            \
  "vfmadd231ps %%" reg "14, %%" reg "15, %%" reg "4\n\tvfmadd231ps %%" reg "14, %%" reg "15, %%" reg \
  "5\n\t"                                                                                            \
  "vfmadd231ps %%" reg "14, %%" reg "15, %%" reg "6\n\tvfmadd231ps %%" reg "14, %%" reg "15, %%" reg \
  "7\n\t"                                                                                            \
  "vfmadd231ps %%" reg "14, %%" reg "15, %%" reg "8\n\tvfmadd231ps %%" reg "14, %%" reg "15, %%" reg \
  "9\n\t"                                                                                            \
  "vfmadd231ps %%" reg "14, %%" reg "15, %%" reg "10\n\tvfmadd231ps %%" reg "14, %%" reg "15, %%" reg "11\n\t"
#define CADRE_BURN(reg, kind)                                                                                       \
  __asm__ volatile("vpxor %%xmm14, %%xmm14, %%xmm14\n\tvpxor %%xmm15, %%xmm15, %%xmm15\n\t1:\n\t" CADRE_FMA_CHAINS( \
                       reg) "dec %0\n\tjnz 1b\n\tvzeroupper"                                                        \
                   : "+r"(count)                                                                                    \
                   :                                                                                                \
                   : kind "0", kind "1", kind "2", kind "3", kind "4", kind "5", kind "6", kind "7", kind "8",      \
                     kind "9", kind "10", kind "11", kind "14", kind "15", "cc")
// Returns floating-point operations done.
inline double burn(kernels::Isa isa, int64_t count) {
  const double steps = static_cast<double>(count);
  if (isa == kernels::Isa::kAvx512) {
    CADRE_BURN("zmm", "xmm");
    return steps * 12 * 32;
  }
  if (kernels::isa_available(kernels::Isa::kAvx2)) {
    CADRE_BURN("ymm", "xmm");
    return steps * 12 * 16;
  }
  return 0;
}
#else
inline double burn(kernels::Isa, int64_t) { return 0; }
#endif

// Floating-point operations per second of all threads together; each is timed by its own CPU clock, so that a
// neighbour's load does not pass for a slow machine. Shares of several threads are thus of the undisturbed peak.
inline double peak_rate(kernels::Exec& exec) {
  constexpr int64_t kSteps = 60000;
  const Clock clock(1);
  std::vector<double> rates(static_cast<size_t>(exec.threads.size()));
  exec.threads.run([&](int worker) {
    const double begin = clock.now();
    const double operations = burn(exec.isa, kSteps);
    rates[static_cast<size_t>(worker)] = operations / (clock.now() - begin);
  });
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

}  // namespace cadre::bench
