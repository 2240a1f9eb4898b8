// Against a tree of files as powercap has them.

#include "launch/monitor/energy.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/core/io/temporary_directory.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

class EnergyTest : public ::testing::Test {
 protected:
  void write(const std::string& zone, const char* file, const std::string& text) {
    fs::create_directories(root_ / zone);
    std::ofstream(root_ / zone / file) << text << '\n';
  }
  void zone(const std::string& zone, const char* name, uint64_t energy) {
    write(zone, "name", name);
    write(zone, "max_energy_range_uj", "1000000000");
    count(zone, energy);
  }
  void count(const std::string& zone, uint64_t energy) { write(zone, "energy_uj", std::to_string(energy)); }

  cadre::testing::TemporaryDirectory directory_;
  fs::path root_ = directory_.path() / "powercap";
};

TEST_F(EnergyTest, PackagesAndMemoryAddUpAndNothingCountsTwice) {
  zone("intel-rapl:0", "package-0", 5'000'000);
  zone("intel-rapl:1", "package-1", 0);
  zone("intel-rapl:0:0", "core", 0);
  zone("intel-rapl:0:1", "dram", 100);
  zone("intel-rapl:2", "psys", 0);
  zone("intel-rapl-mmio:0", "package-0", 0);
  EnergyReader reader(root_);
  EXPECT_EQ(reader.joules(), 0.0);
  for (const char* all : {"intel-rapl:0:0", "intel-rapl:2", "intel-rapl-mmio:0"}) count(all, 77'000'000);
  count("intel-rapl:0", 7'000'000);
  count("intel-rapl:1", 500'000);
  count("intel-rapl:0:1", 250'100);
  EXPECT_DOUBLE_EQ(reader.joules().value(), 2 + 0.5 + 0.25);
  EXPECT_EQ(reader.joules(), 0.0) << "since the last call";
}

TEST_F(EnergyTest, CountersWrap) {
  zone("intel-rapl:0", "package-0", 999'000'000);
  EnergyReader reader(root_);
  count("intel-rapl:0", 3'000'000);
  EXPECT_DOUBLE_EQ(reader.joules().value(), 4);
}

TEST_F(EnergyTest, WhatCannotBeReadIsNotKnown) {
  EXPECT_FALSE(EnergyReader(root_).joules()) << "no tree";
  zone("intel-rapl:0", "package-0", 5);
  zone("intel-rapl:1", "package-1", 5);
  EnergyReader reader(root_);
  fs::remove(root_ / "intel-rapl:1/energy_uj");
  EXPECT_FALSE(reader.joules()) << "half of the machine says nothing of the whole";
  count("intel-rapl:1", 5);
  EXPECT_FALSE(reader.joules()) << "nothing to compare with";
  count("intel-rapl:1", 1'000'005);
  EXPECT_DOUBLE_EQ(reader.joules().value(), 1);
}

}  // namespace
}  // namespace cadre::launch
