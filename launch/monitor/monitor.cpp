#include "launch/monitor/monitor.h"

#include <fmt/core.h>

namespace cadre::launch {
namespace {

class LogLine final : public Observer {
 public:
  LogLine(Logger& logger, int64_t every) : logger_(logger), every_(every) {}
  void on_start(const RunInfo& info) override { info_ = info; }
  void on_step(const StepMetrics& m) override {
    if (m.step % every_ != 0 && m.step != info_.total_steps) return;
    logger_.info(fmt::format("step {}/{} loss {:.4f} lr {:.2e} norm {:.3f} {:.0f} tokens/s", m.step, info_.total_steps, m.loss,
                             m.learning_rate, m.gradient_norm, m.tokens_per_second()));
  }

 private:
  Logger& logger_;
  int64_t every_;
  RunInfo info_;
};

}  // namespace

std::vector<std::unique_ptr<Observer>> make_observers(const MonitorSettings& settings, Logger& logger, int rank) {
  std::vector<std::unique_ptr<Observer>> observers;
  if (rank == 0) observers.push_back(std::make_unique<LogLine>(logger, settings.log_every));
  return observers;
}

double peak_flops(const MonitorSettings& settings, const autograd::Context&) { return settings.peak_gflops * 1e9; }

}  // namespace cadre::launch
