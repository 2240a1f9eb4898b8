#include "launch/monitor/energy.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

std::string word_in(const fs::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

std::optional<uint64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

// "intel-rapl:0" is a package, "intel-rapl:0:1" a part of it. Cores are parts that the package has counted; memory is
// not. "psys" has all in it, and intel-rapl-mmio is the packages once more.
bool counts(const fs::path& zone) {
  const std::string folder = zone.filename().string();
  if (!folder.starts_with("intel-rapl:")) return false;
  const std::string name = word_in(zone / "name");
  const bool part = std::count(folder.begin(), folder.end(), ':') > 1;
  return part ? name == "dram" : name.starts_with("package");
}

}  // namespace

EnergyReader::EnergyReader(const fs::path& root) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(root, none)) {
    if (!counts(entry.path())) continue;
    const fs::path file = entry.path() / "energy_uj";
    counters_.push_back({file, number_in(entry.path() / "max_energy_range_uj").value_or(0), number_in(file)});
  }
}

std::optional<double> EnergyReader::joules() {
  double sum = 0;
  bool known = !counters_.empty();
  for (Counter& counter : counters_) {
    const std::optional<uint64_t> now = number_in(counter.file), before = std::exchange(counter.last, now);
    if (!now || !before) {
      known = false;
    } else if (*now >= *before) {
      sum += static_cast<double>(*now - *before);
    } else if (counter.range >= *before) {
      sum += static_cast<double>(counter.range - *before + *now);
    } else {
      known = false;
    }
  }
  if (!known) return std::nullopt;
  return sum * 1e-6;
}

}  // namespace cadre::launch
