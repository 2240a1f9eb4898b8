#include "launch/monitor/monitor.h"

#include <nlohmann/json.hpp>

#include "launch/monitor/sink_file.h"
#include "tests/launch/monitor/monitor_fixture.h"

namespace cadre::launch::monitor_testing {
namespace {

namespace fs = std::filesystem;

class MakeObservers : public MonitorTest {
 protected:
  MakeObservers() { logger_.open_file(log_path().string()); }
  ~MakeObservers() override {
    std::error_code ignored;
    fs::remove(log_path(), ignored);
  }
  // Beside the run directory, which some tests take away.
  fs::path log_path() const { return directory_.string() + ".log"; }
  std::string log() const { return contents(log_path()); }

  // `between` happens before step 3 of 6.
  template <class F>
  void run(const MonitorSettings& settings, F&& between) {
    const auto observers = make_observers(settings, logger_, 0);
    for (const auto& observer : observers) observer->on_start(info());
    for (int64_t i = 1; i <= 6; ++i) {
      if (i == 3) between();
      for (const auto& observer : observers) observer->on_step(step(i));
    }
    for (const auto& observer : observers) observer->on_finish();
  }
  int warnings(const std::string& name) const { return count_of(log(), "warning: " + name + ": "); }

  Logger logger_;
};

TEST_F(MakeObservers, EverythingAskedForIsThere) {
  run({}, [] {});
  EXPECT_EQ(count_of(contents(directory_ / "metrics.jsonl"), "\n"), 6);
  EXPECT_NE(contents(directory_ / "loss.svg").find("<polyline"), std::string::npos);
  int events = 0;
  for (const auto& item : fs::directory_iterator(directory_)) {
    events += item.path().filename().string().rfind("events.out.tfevents.", 0) == 0;
  }
  EXPECT_EQ(events, 1);
  EXPECT_EQ(count_of(log(), "warning"), 0) << log();
  EXPECT_EQ(count_of(log(), (directory_ / "loss.svg").string()), 1) << log();
}

TEST_F(MakeObservers, NothingElse) {
  MonitorSettings settings;
  settings.metrics = settings.tensorboard = false;
  run(settings, [] {});
  EXPECT_TRUE(fs::is_empty(directory_));
  EXPECT_TRUE(make_observers({}, logger_, 1).empty()) << "only rank 0 reports";
}

TEST_F(MakeObservers, AFullDiskEndsOneSinkWithOneWarning) {
  fs::create_symlink("/dev/full", directory_ / "metrics.jsonl");
  run({}, [] {});
  EXPECT_EQ(warnings("metrics"), 1) << log();
  EXPECT_EQ(count_of(log(), "metrics.jsonl: No space left on device"), 1) << log();
  EXPECT_EQ(warnings("loss plot"), 1) << log();
  EXPECT_EQ(warnings("TensorBoard events"), 0) << log();
}

TEST_F(MakeObservers, AVanishedDirectoryEndsTheFilesOnly) {
  run({}, [&] { fs::remove_all(directory_); });
  EXPECT_EQ(warnings("metrics"), 1) << log();
  EXPECT_EQ(warnings("TensorBoard events"), 1) << log();
  EXPECT_EQ(warnings("loss plot"), 1) << log();
  EXPECT_EQ(warnings("progress"), 0) << log();
  EXPECT_FALSE(fs::exists(directory_)) << "is not made again";
}

TEST_F(MakeObservers, AMissingDirectoryIsWarnedOfAtTheStart) {
  fs::remove_all(directory_);
  run({}, [] {});
  EXPECT_EQ(warnings("metrics"), 1) << log();
  EXPECT_EQ(warnings("TensorBoard events"), 1) << log();
  EXPECT_EQ(count_of(log(), "step 6/100"), 1) << log();
}

TEST_F(MakeObservers, SomethingElseInTheWayIsNotTouched) {
  fs::create_directory(directory_ / "metrics.jsonl");
  run({}, [] {});
  EXPECT_EQ(warnings("metrics"), 1) << log();
  EXPECT_TRUE(fs::is_directory(directory_ / "metrics.jsonl"));
}

class SinkFileTest : public MonitorTest {};

TEST_F(SinkFileTest, AppendsWholeRecords) {
  const fs::path path = directory_ / "sink";
  SinkFile(path).append("one\n");
  SinkFile file(path);
  file.append("");
  file.append("two\n");
  EXPECT_EQ(contents(path), "one\ntwo\n");
  fs::remove(path);
  EXPECT_THROW(file.append("three\n"), SinkError);
  EXPECT_THROW(SinkFile("/dev/full").append("x"), SinkError);
  EXPECT_THROW(SinkFile(directory_ / "none" / "sink"), SinkError);
}

// Throws at every call from the second on, and counts them.
class Faulty final : public Observer {
 public:
  explicit Faulty(int& calls) : calls_(calls) {}
  void on_start(const RunInfo&) override { ++calls_; }
  void on_step(const StepMetrics&) override {
    ++calls_;
    throw SinkError("broken");
  }
  void on_finish() override { ++calls_; }

 private:
  int& calls_;
};

TEST_F(MakeObservers, GuardedIsNotCalledAgainAfterAFailure) {
  int calls = 0;
  const auto observer = guarded("faulty", std::make_unique<Faulty>(calls), logger_);
  observer->on_start(info());
  observer->on_step(step(1));
  observer->on_step(step(2));
  observer->on_checkpoint(2, "x", 1);
  observer->on_finish();
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(warnings("faulty"), 1) << log();
}

TEST(PeakFlops, ConfiguredOrMeasuredOrUnknown) {
  ThreadPool threads(2);
  const auto allocator = make_host_allocator();
  autograd::Context context{{threads, kernels::best_isa()}, *allocator, Dtype::kF32};
  MonitorSettings settings;
  EXPECT_GT(peak_flops(settings, context), 1e6);
  settings.peak_gflops = 12.5;
  EXPECT_EQ(peak_flops(settings, context), 12.5e9);
  context.dtype = Dtype::kF64;
  EXPECT_EQ(peak_flops(MonitorSettings{}, context), 0);
}

}  // namespace
}  // namespace cadre::launch::monitor_testing
