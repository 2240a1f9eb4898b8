#pragma once
// metrics.jsonl: one JSON object a step, in the order of steps, each step once. Numbers read back bit for bit; null
// stands for a number that is not finite or not known.
//
//   step, loss, balance_loss, z_loss, lr, grad_norm, clip, tokens, tokens_per_second, seconds
//   mfu                     share of peak FP32 FLOP/s
//   data_wait, exposed_communication   seconds
//   memory_in_use, memory_peak         bytes, of rank 0
//   validation_loss, validation_perplexity, validation_bits_per_byte, validation_seconds   only in steps that have them
//   joules, joules_per_token   where all hosts tell their energy, from the end of the step before
//   dispatch_bytes          [of each data rank: [to each rank of its expert group]], in steps that measure experts
//   experts                 of each MoE layer, to six digits but for counts; lists are of each expert:
//     layer, tokens: [...], dropped, utilisation, cv, js, balance_loss, z_loss
//     ids: [...]            where they are not 0, 1, ...
//     drops, idle: [...]    where one is not 0
//     entropy, mass, grad_norm, update_norm: [...]   in steps that measure experts
//     skipped, quarantined  where experts are isolated: the ids of those whose gradient was thrown away, and of those
//                           in quarantine

#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "launch/monitor/observer.h"
#include "launch/monitor/sink_file.h"

namespace cadre::launch {

inline constexpr const char* kMetricsFileName = "metrics.jsonl";

// One line, newline included.
std::string metrics_line(const StepMetrics& metrics, const RunInfo& info);

// Removes the steps from `first_step` on, which a resumed run is about to repeat, and lines that are no whole object
// (the last one, after a crash). The file is replaced in one step, or left alone when nothing needs to go or none is
// there.
void cut_metrics(const std::filesystem::path& path, int64_t first_step);

struct LossPoint {
  int64_t step;
  double tokens;  // from the start of the run to the end of this step
  double loss;
  double validation = std::numeric_limits<double>::quiet_NaN();  // held-out loss, where there is one
};
// Lines that are no whole object, or have no finite loss, are passed over. A missing file is a SinkError, and so is
// one that is not regular (a device may have no end).
std::vector<LossPoint> read_losses(const std::filesystem::path& path);

// Appends to DIRECTORY/metrics.jsonl.
class MetricsFile final : public Observer {
 public:
  void on_start(const RunInfo& info) override;
  void on_step(const StepMetrics& metrics) override;

 private:
  RunInfo info_;
  std::unique_ptr<SinkFile> file_;
};

}  // namespace cadre::launch
