#include "launch/monitor/monitor.h"

#include <unistd.h>

#include "kernels/peak.h"
#include "launch/monitor/metrics_file.h"
#include "launch/monitor/plot.h"
#include "launch/monitor/progress.h"
#include "launch/monitor/prometheus.h"
#include "launch/monitor/sink_file.h"
#include "launch/monitor/tensorboard.h"

namespace cadre::launch {
namespace {

// Draws DIRECTORY/loss.svg at the end; stands behind the file that it reads.
class LossPlot final : public Observer {
 public:
  explicit LossPlot(Logger& logger) : logger_(logger) {}
  void on_start(const RunInfo& info) override { directory_ = info.directory; }
  void on_finish() override {
    write_loss_plot(directory_);
    logger_.info("metrics in " + (directory_ / kMetricsFileName).string() + ", loss plot in " +
                 (directory_ / kLossPlotName).string());
  }

 private:
  Logger& logger_;
  std::filesystem::path directory_;
};

}  // namespace

std::vector<std::unique_ptr<Observer>> make_observers(const MonitorSettings& settings, Logger& logger, int rank) {
  std::vector<std::unique_ptr<Observer>> observers;
  if (rank != 0) return observers;
  const auto add = [&](const char* name, std::unique_ptr<Observer> observer) {
    observers.push_back(guarded(name, std::move(observer), logger));
  };
  if (settings.metrics) add("metrics", std::make_unique<MetricsFile>());
  if (settings.tensorboard) add("TensorBoard events", std::make_unique<TensorBoardFile>());
  if (settings.prometheus) {
    add("Prometheus", std::make_unique<PrometheusServer>(listen_address(*settings.prometheus)));
  }
  add("progress", std::make_unique<Progress>(logger, settings.log_every, terminal_columns(), STDERR_FILENO,
                                             terminal_has_unicode()));
  if (settings.metrics) add("loss plot", std::make_unique<LossPlot>(logger));
  return observers;
}

double peak_flops(const MonitorSettings& settings, const autograd::Context& context) {
  if (settings.peak_gflops > 0) return settings.peak_gflops * 1e9;
  return context.dtype == Dtype::kF32 ? kernels::measure_peak_flops(context.exec) : 0;
}

}  // namespace cadre::launch
