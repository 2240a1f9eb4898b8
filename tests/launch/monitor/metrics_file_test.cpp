#include "launch/monitor/metrics_file.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "launch/monitor/load_spread.h"
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
  EXPECT_EQ(object.at("experts"), json::parse(R"([{"layer":1,"tokens":[10,20,30,40],"dropped":3,"utilisation":0.75,
      "cv":0.447214,"js":0.0278656,"balance_loss":0,"z_loss":0},{"layer":2,"tokens":[25,25,25,25],"dropped":0,
      "utilisation":1,"cv":0,"js":0,"balance_loss":0,"z_loss":0}])"));
  EXPECT_EQ(object.size(), 17u);
}

TEST_F(MetricsFileTest, IsolatedExpertsHaveListsOfTheSkippedAndTheQuarantined) {
  StepMetrics m = step(1);
  m.experts[0].isolation = LayerLoad::Isolation{{2}, {0, 2}};
  m.experts[1].isolation.emplace();
  const json experts = json::parse(metrics_line(m, info())).at("experts");
  EXPECT_EQ(experts[0].at("skipped"), json({2}));
  EXPECT_EQ(experts[0].at("quarantined"), json({0, 2}));
  EXPECT_EQ(experts[1].at("skipped"), json::array());
  EXPECT_EQ(experts[1].at("quarantined"), json::array());
}

TEST_F(MetricsFileTest, MeasuredExpertsHaveListsInTheOrderOfTheirPlaces) {
  StepMetrics m = step(1);
  EXPECT_FALSE(json::parse(metrics_line(m, info())).at("experts")[0].contains("mass"));
  m.experts[0].ids = {4, 7, 1, 9};
  m.experts[0].drops = {0, 0, 1, 2};
  m.experts[0].idle_steps = {0, 0, 0, 0};
  m.experts[1].idle_steps = {0, 5, 0, 0};
  m.experts[1].balance_loss = 0.25;
  m.experts[1].z_loss = 0.125;
  m.experts[0].detail = LayerLoad::Detail{{0.5, 0.25, 0.125, 1.0 / 8}, {1, 2, 3, 1.0 / 3}, {0, 0.1, 0.2, 0.3}, 1.25};
  m.dispatch = DispatchTraffic{2, 2, {0, 64, 128, 1e9}};
  const std::string line = metrics_line(m, info());
  EXPECT_TRUE(line.ends_with("]}\n")) << "as a whole line does";
  const json object = json::parse(line);
  EXPECT_EQ(object.at("dispatch_bytes"), json::parse("[[0,64],[128,1e9]]"));
  const json &first = object.at("experts")[0], &second = object.at("experts")[1];
  EXPECT_EQ(first.at("ids"), json({4, 7, 1, 9}));
  EXPECT_EQ(first.at("drops"), json({0, 0, 1, 2}));
  EXPECT_FALSE(first.contains("idle")) << "all are busy";
  EXPECT_EQ(first.at("mass"), json({0.5, 0.25, 0.125, 0.125}));
  EXPECT_EQ(first.at("grad_norm"), json({1.0, 2.0, 3.0, 0.333333}));
  EXPECT_EQ(first.at("update_norm"), json({0.0, 0.1, 0.2, 0.3}));
  EXPECT_EQ(first.at("entropy"), 1.25);
  EXPECT_EQ(second.at("idle"), json({0, 5, 0, 0}));
  EXPECT_EQ(second.at("balance_loss"), 0.25);
  EXPECT_EQ(second.at("z_loss"), 0.125);
  EXPECT_FALSE(second.contains("ids"));
}

TEST(LoadSpread, ByHand) {
  const LoadSpread even = load_spread({3, 3, 3});
  EXPECT_EQ(even.utilisation, 1);
  EXPECT_EQ(even.variation, 0);
  EXPECT_EQ(even.divergence, 0);
  const LoadSpread one = load_spread({8, 0});  // against halves; the middle is 3/4, 1/4
  EXPECT_EQ(one.utilisation, 0.5);
  EXPECT_EQ(one.variation, 1);
  EXPECT_NEAR(one.divergence, (std::log(4.0 / 3) + 0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0)) / 2, 1e-15);
  EXPECT_EQ(load_spread({2, 6, 8, 0, 4}).utilisation, 0.6) << "half of the fair share is not above it";
  EXPECT_TRUE(std::isnan(load_spread({0, 0}).utilisation));
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
