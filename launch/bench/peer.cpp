#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/peak.h"
#include "launch/bench/bench.h"
#include "launch/bench/peer_case.h"
#include "launch/bench/timing.h"

namespace cadre::launch {
namespace {

double peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return 1024.0 * static_cast<double>(usage.ru_maxrss);
}

}  // namespace

nlohmann::json bench_peer(Session& session, const BenchOptions& options) {
  constexpr int kWarmUpSteps = 3;
  constexpr size_t kStepsPerPeak = 4;
  PeerCase peer(session);
  for (int i = 0; i < kWarmUpSteps; ++i) peer.step();
  std::vector<double> seconds, peaks;
  for (double spent = 0; spent < options.seconds || seconds.size() < 5; spent += seconds.back()) {
    if (seconds.size() % kStepsPerPeak == 0) peaks.push_back(kernels::measure_peak_flops(session.context().exec));
    seconds.push_back(peer.step());
  }
  const double middle = median(seconds), best = *std::min_element(seconds.begin(), seconds.end());
  const double peak = median(peaks), rate = peer.flops() / middle;
  const nlohmann::json result{{"case", "peer"},
                              {"threads", session.threads()},
                              {"steps", seconds.size()},
                              {"tokens_per_second", peer.tokens() / middle},
                              {"best_tokens_per_second", peer.tokens() / best},
                              {"gflops", 1e-9 * rate},
                              {"peak_gflops", 1e-9 * peak},
                              {"share_of_peak", rate / peak},
                              {"tensor_memory_bytes", session.allocator().stats().peak},
                              {"peak_memory_bytes", peak_resident_bytes()},
                              {"parameters", peer.state().store().parameter_count()}};
  if (options.print) {
    fmt::print(
        "peer case: {:.0f} tokens/s (median of {} steps; best {:.0f}), {:.1f} GFLOP/s, {:.1f}% of a measured peak of "
        "{:.1f}; tensors {:.0f} MB, process {:.0f} MB\n",
        peer.tokens() / middle, seconds.size(), peer.tokens() / best, 1e-9 * rate, 100 * rate / peak, 1e-9 * peak,
        1e-6 * static_cast<double>(session.allocator().stats().peak), 1e-6 * peak_resident_bytes());
  }
  return result;
}

}  // namespace cadre::launch
