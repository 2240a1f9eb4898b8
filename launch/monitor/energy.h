#pragma once
// Energy that a machine's processors and memory have used, where it tells: RAPL (running average power limit) by way of
// Linux' powercap, whose counters often are for root only.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace cadre::launch {

class EnergyReader {
 public:
  // Finds the packages, and memory that is counted beside them, below `root`.
  explicit EnergyReader(const std::filesystem::path& root = "/sys/class/powercap");

  // Joules since the last call, or since the start; none when a counter cannot be read, or there is none. Counters that
  // wrap more than once between calls (minutes) count short.
  std::optional<double> joules();

 private:
  struct Counter {
    std::filesystem::path file;
    uint64_t range;  // it counts microjoules up to this, then from 0
    std::optional<uint64_t> last{};
  };
  std::vector<Counter> counters_;
};

}  // namespace cadre::launch
