#include "launch/monitor/metrics_file.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/launch/monitor/monitor_fixture.h"

namespace cadre::launch::monitor_testing {
namespace {

using nlohmann::json;

class MetricsFileTest : public MonitorTest {
 protected:
  std::filesystem::path path() const { return directory_ / kMetricsFileName; }

  void run_steps(int64_t first, int64_t last) {
    MetricsFile file;
    file.on_start(info(first));
    for (int64_t i = first; i <= last; ++i) file.on_step(step(i));
  }
  std::vector<int64_t> steps() const {
    std::vector<int64_t> found;
    std::ifstream file(path());
    for (std::string line; std::getline(file, line);) found.push_back(json::parse(line).at("step"));
    return found;
  }
  static std::vector<int64_t> up_to(int64_t last) {
    std::vector<int64_t> all;
    for (int64_t i = 1; i <= last; ++i) all.push_back(i);
    return all;
  }
};

TEST_F(MetricsFileTest, OneObjectAStepWithEveryField) {
  StepMetrics m = step(7);
  m.loss = 0.1 + 0.2;
  m.gradient_norm = std::numeric_limits<double>::denorm_min();
  m.learning_rate = 1.0 / 3;
  MetricsFile file;
  file.on_start(info());
  file.on_step(m);
  const std::string text = contents(path());  // while the run goes on
  ASSERT_EQ(count_of(text, "\n"), 1);
  const json object = json::parse(text);
  EXPECT_EQ(object.at("step"), 7);
  EXPECT_EQ(object.at("loss").get<double>(), m.loss) << "bit for bit";
  EXPECT_EQ(object.at("grad_norm").get<double>(), m.gradient_norm);
  EXPECT_EQ(object.at("lr").get<double>(), m.learning_rate);
  EXPECT_EQ(object.at("balance_loss"), 0.01);
  EXPECT_EQ(object.at("z_loss"), 1e-4);
  EXPECT_EQ(object.at("clip"), 0.8);
  EXPECT_EQ(object.at("tokens"), 2048);
  EXPECT_EQ(object.at("tokens_per_second"), 16384);
  EXPECT_EQ(object.at("seconds"), 0.125);
  EXPECT_DOUBLE_EQ(object.at("mfu"), 16384 * 3e6 / 1e11);
  EXPECT_EQ(object.at("data_wait"), 0.002);
  EXPECT_EQ(object.at("exposed_communication"), 0.004);
  EXPECT_EQ(object.at("memory_in_use"), 1 << 20);
  EXPECT_EQ(object.at("memory_peak"), uint64_t{3} << 29);
  EXPECT_EQ(object.at("experts"), json::parse(R"([{"layer":1,"tokens":[10,20,30,40],"dropped":3},
                                                  {"layer":2,"tokens":[25,25,25,25],"dropped":0}])"));
  EXPECT_EQ(object.size(), 17u);
}

TEST_F(MetricsFileTest, IsolatedExpertsHaveListsOfTheSkippedAndTheQuarantined) {
  StepMetrics m = step(1);
  m.experts[0].isolation = LayerLoad::Isolation{{2}, {0, 2}};
  m.experts[1].isolation.emplace();
  EXPECT_EQ(json::parse(metrics_line(m, info())).at("experts"),
            json::parse(R"([{"layer":1,"tokens":[10,20,30,40],"dropped":3,"skipped":[2],"quarantined":[0,2]},
                      {"layer":2,"tokens":[25,25,25,25],"dropped":0,"skipped":[],"quarantined":[]}])"));
}

TEST_F(MetricsFileTest, WhatIsNotFiniteOrNotKnownIsNull) {
  StepMetrics m = step(1);
  m.loss = std::numeric_limits<double>::quiet_NaN();
  m.gradient_norm = std::numeric_limits<double>::infinity();
  m.seconds = 0;
  m.experts.clear();
  RunInfo unknown = info();
  unknown.peak_flops = 0;
  const json object = json::parse(metrics_line(m, unknown));
  for (const char* key : {"loss", "grad_norm", "tokens_per_second", "mfu"})
    EXPECT_TRUE(object.at(key).is_null()) << key;
  EXPECT_TRUE(object.at("experts").empty());
}

TEST_F(MetricsFileTest, AValidationStandsInItsStepOnly) {
  {
    MetricsFile file;
    file.on_start(info());
    file.on_step(step(1));
    file.on_step(validated_step(2));
  }
  EXPECT_FALSE(json::parse(metrics_line(step(1), info())).contains("validation_loss"));
  StepMetrics m = validated_step(2);
  json object = json::parse(metrics_line(m, info()));
  EXPECT_EQ(object.at("validation_loss"), 2.25);
  EXPECT_EQ(object.at("validation_perplexity"), 9.5);
  EXPECT_EQ(object.at("validation_bits_per_byte"), 1.75);
  EXPECT_EQ(object.at("validation_seconds"), 0.5);
  EXPECT_EQ(object.size(), 21u);
  m.validation.bits_per_byte = 0;
  EXPECT_TRUE(json::parse(metrics_line(m, info())).at("validation_bits_per_byte").is_null()) << "unknown";
  const std::vector<LossPoint> points = read_losses(path());
  ASSERT_EQ(points.size(), 2u);
  EXPECT_TRUE(std::isnan(points[0].validation));
  EXPECT_EQ(points[1].validation, 2.25);
  run_steps(3, 3);
  EXPECT_EQ(steps(), up_to(3)) << "a line with a validation is a whole line";
}

TEST_F(MetricsFileTest, AfterAResumeEachStepStandsOnce) {
  run_steps(1, 9);
  run_steps(6, 12);  // killed after step 9, resumed from step 5
  EXPECT_EQ(steps(), up_to(12));
  run_steps(13, 14);  // nothing to cut
  EXPECT_EQ(steps(), up_to(14));
  run_steps(1, 3);  // from the beginning again
  EXPECT_EQ(steps(), up_to(3));
}

TEST_F(MetricsFileTest, ATornLastLineIsDroppedWhereverItWasTorn) {
  run_steps(1, 4);
  const std::string whole = contents(path());
  const size_t last_line = whole.rfind('\n', whole.size() - 2) + 1;
  std::vector<size_t> sizes = {last_line + 1,    last_line + 8,    last_line + 9,   last_line + 10,
                               whole.size() - 3, whole.size() - 2, whole.size() - 1};
  for (size_t size = last_line; size < whole.size(); size += 37) sizes.push_back(size);
  for (const size_t size : sizes) {
    std::ofstream(path(), std::ios::binary) << whole.substr(0, size);
    run_steps(5, 6);
    ASSERT_EQ(steps(), (std::vector<int64_t>{1, 2, 3, 5, 6})) << "torn at byte " << size - last_line;
  }
  std::ofstream(path(), std::ios::binary) << whole.substr(0, whole.size() - 10) << std::string(40, '\0') << "\n";
  run_steps(4, 5);
  EXPECT_EQ(steps(), up_to(5));
}

TEST_F(MetricsFileTest, LossesComeWithTheTokensSoFar) {
  run_steps(1, 3);
  std::ofstream(path(), std::ios::app) << "not json\n"
                                       << R"({"step":4,"loss":null,"tokens":2048,"experts":[]})"
                                       << "\n"
                                       << R"({"step":5,"loss":2,"tokens":2048,"experts":[]})"
                                       << "\n{\"step\":6,\"lo";
  const std::vector<LossPoint> points = read_losses(path());
  ASSERT_EQ(points.size(), 4u);
  EXPECT_EQ(points[2].tokens, 3 * 2048);
  EXPECT_EQ(points[2].loss, step(3).loss);
  EXPECT_EQ(points[3].step, 5);
  EXPECT_EQ(points[3].tokens, 5 * 2048);
  EXPECT_THROW(read_losses(directory_ / "none"), SinkError);
  EXPECT_THROW(read_losses("/dev/zero"), SinkError) << "has no end";
}

}  // namespace
}  // namespace cadre::launch::monitor_testing
