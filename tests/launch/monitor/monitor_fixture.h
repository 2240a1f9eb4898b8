#pragma once
// A directory of a run that goes with the test, and steps to report.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "launch/monitor/observer.h"

namespace cadre::launch::monitor_testing {

class MonitorTest : public ::testing::Test {
 protected:
  MonitorTest() {
    std::string name = (std::filesystem::temp_directory_path() / "cadre_monitor_XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
  }
  ~MonitorTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  RunInfo info(int64_t first_step = 1) const {
    RunInfo info;
    info.directory = directory_.string();
    info.first_step = first_step;
    info.total_steps = 100;
    info.parameters = 1'500'000;
    info.active_parameters = 700'000;
    info.flops_per_token = 3e6;
    info.peak_flops = 1e11;
    info.num_experts = 4;
    return info;
  }

  static StepMetrics step(int64_t number) {
    StepMetrics m;
    m.step = number;
    m.loss = 1 + 7.0 / static_cast<double>(number);
    m.balance_loss = 0.01;
    m.z_loss = 1e-4;
    m.learning_rate = 3e-4;
    m.gradient_norm = 1.25;
    m.clip_factor = 0.8;
    m.tokens = 2048;
    m.seconds = 0.125;
    m.data_wait_seconds = 0.002;
    m.exposed_communication_seconds = 0.004;
    m.memory_in_use = uint64_t{1} << 20;
    m.memory_peak = uint64_t{3} << 29;
    m.experts = {{1, {10, 20, 30, 40}, 3}, {2, {25, 25, 25, 25}, 0}};
    return m;
  }

  static StepMetrics validated_step(int64_t number) {
    StepMetrics m = step(number);
    m.validation = {4096, 2.25, 9.5, 1.75, 0.5};
    return m;
  }

  static std::string contents(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  std::filesystem::path directory_;
};

inline int count_of(const std::string& text, const std::string& wanted) {
  int count = 0;
  for (size_t at = text.find(wanted); at != std::string::npos; at = text.find(wanted, at + wanted.size())) ++count;
  return count;
}

}  // namespace cadre::launch::monitor_testing
