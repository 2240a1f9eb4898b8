#pragma once
// metrics.jsonl: one JSON object a step, in the order of steps, each step once. Numbers read back bit for bit; null
// stands for a number that is not finite or not known.
//
//   step, loss, balance_loss, z_loss, lr, grad_norm, clip, tokens, tokens_per_second, seconds
//   mfu                     share of peak FP32 FLOP/s
//   data_wait, exposed_communication   seconds
//   memory_in_use, memory_peak         bytes, of rank 0
//   validation_loss, validation_perplexity, validation_bits_per_byte, validation_seconds   only in steps that have them
//   experts                 [{layer, tokens: [of each expert], dropped}]; where experts are isolated, also the ids of
//   those
//                           whose gradient was thrown away (skipped) and of those in quarantine (quarantined)

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
