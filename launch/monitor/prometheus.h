#pragma once
// What a run is doing, for Prometheus to scrape: http://ADDRESS:PORT/metrics while the run lives.

#include <memory>
#include <string>

#include "launch/monitor/observer.h"

namespace cadre::launch {

// "9400" or "0.0.0.0:9400" -> what a server binds to; alone, a port is that of this machine only. Empty when `text` is
// neither.
std::string listen_address(const std::string& text);

// Gauges show the last step; of what only some steps tell, the last such step. Every series has the label `run`, the
// name of the run's directory.
class PrometheusServer final : public Observer {
 public:
  // `address`: as listen_address() gives. Listens from on_start() on; a SinkError where it cannot.
  explicit PrometheusServer(std::string address);
  ~PrometheusServer() override;

  void on_start(const RunInfo& info) override;
  void on_step(const StepMetrics& metrics) override;

 private:
  struct Series;
  std::string address_;
  std::unique_ptr<Series> series_;
};

}  // namespace cadre::launch
