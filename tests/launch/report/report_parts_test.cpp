// Parts of a report that can be checked by hand.

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/error.h"
#include "launch/report/chart.h"
#include "launch/report/html.h"
#include "launch/report/png.h"
#include "launch/report/run_history.h"
#include "launch/report/sections.h"
#include "tests/core/io/temporary_directory.h"

namespace cadre::launch {
namespace {

TEST(TimeBins, ThousandsOfStepsBecomeMeansOfEqualRuns) {
  TimeBins bins(8);
  for (int64_t step = 1; step <= 1000; ++step) {
    bins.add(step, 0, static_cast<double>(step));
    if (step > 500) bins.add(step, 2, 7);
    bins.add(step, 1, NAN);
  }
  EXPECT_LE(bins.columns(), 8u);
  EXPECT_EQ(bins.rows(), 3u);
  EXPECT_EQ(bins.mean(0, 0), 64.5) << "steps 1 .. 128";
  EXPECT_EQ(bins.middle(0), 64.5);
  EXPECT_TRUE(std::isnan(bins.mean(2, 0)));
  EXPECT_EQ(bins.mean(2, 7), 7);
  EXPECT_TRUE(std::isnan(bins.mean(1, 7)));
  EXPECT_EQ(bins.end(), 1025);
  bins.shrink(3);
  EXPECT_EQ(bins.columns(), 2u);
  EXPECT_EQ(bins.mean(0, 0), 256.5);
}

TEST(TimeBins, StepsMayBeMissing) {
  TimeBins bins(4);
  bins.add(10, 0, 1);
  bins.add(int64_t{1} << 40, 0, 3);
  EXPECT_LE(bins.columns(), 4u);
  EXPECT_EQ(bins.mean(0, 0), 1);
  EXPECT_EQ(bins.mean(0, bins.columns() - 1), 3);
}

TEST(Html, NothingGetsOutOfItsPlace) {
  EXPECT_EQ(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
  EXPECT_EQ(escaped("é\n"), "é\n");
  EXPECT_EQ(escaped("a\xFF\x01"
                    "b\xC3"),
            "a\xEF\xBF\xBD\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(whole(1234567), "1,234,567");
  EXPECT_EQ(whole(-123), "-123");
  EXPECT_EQ(whole(-1234), "-1,234");
  EXPECT_EQ(figure(NAN), "–");
  EXPECT_EQ(figure(0.012345), "0.0123");
  EXPECT_EQ(base64("Man"), "TWFu");
  EXPECT_EQ(base64("Ma"), "TWE=");
  EXPECT_EQ(base64("M"), "TQ==");
  EXPECT_EQ(base64(""), "");
}

// Against what libpng reads: three pixels of two colours, checked once with `file` and a browser, and held fast here.
TEST(Png, HasTheChunksOfTheStandard) {
  const std::string image = png({0, 1, 1}, 3, {{0, 0, 0, 0}, {255, 0, 0, 255}});
  const auto contains = [&](const std::string& bytes) { return image.find(bytes) != std::string::npos; };
  EXPECT_TRUE(image.starts_with("\x89PNG\r\n\x1a\n"));
  EXPECT_TRUE(contains(std::string("IHDR\0\0\0\3\0\0\0\1\4\3\0\0\0", 17)));
  EXPECT_TRUE(contains(std::string("PLTE\0\0\0\xff\0\0", 10)));
  EXPECT_TRUE(contains(std::string("\1\3\0\xfc\xff\0\1\x10", 8))) << "one stored block: no filter, then 0 1 1 0";
  EXPECT_TRUE(image.ends_with("IEND\xae\x42\x60\x82")) << "the CRC that every PNG ends with";
}

class HistoryTest : public ::testing::Test {
 protected:
  RunHistory read(const std::string& text) {
    std::ofstream(directory_.path() / "metrics.jsonl") << text;
    return read_history(directory_.path() / "metrics.jsonl");
  }
  cadre::testing::TemporaryDirectory directory_;
};

TEST_F(HistoryTest, FollowsExpertsByTheirIds) {
  const RunHistory history = read(
      R"({"step":1,"loss":3,"tokens":8,"seconds":2,"experts":[{"layer":1,"tokens":[2,6],"dropped":1,"drops":[0,1],)"
      R"("mass":[0.25,0.75],"entropy":0.5,"cv":0.5,"utilisation":0.5,"js":0.1}]})"
      "\n"
      R"({"step":2,"loss":null,"tokens":8,"seconds":2,"experts":[{"layer":1,"tokens":[4,4,0],"dropped":0,)"
      R"("ids":[1,7,0],"idle":[0,0,3],"skipped":[7],"quarantined":[7],"cv":1}]})"
      "\nnonsense\n"
      R"({"step":2,"loss":9,"experts":[]})"
      "\n"
      R"({"step":3,"los)");
  EXPECT_EQ(history.steps, 2);
  EXPECT_EQ(history.last_step, 2);
  EXPECT_EQ(history.bad_lines, 3);
  EXPECT_EQ(history.losses.size(), 1u);
  EXPECT_EQ(history.tokens, 16);
  ASSERT_EQ(history.layers.size(), 1u);
  const LayerRecord& layer = history.layers[0];
  ASSERT_EQ(layer.experts.size(), 3u) << "0, 1 and 7";
  EXPECT_EQ(layer.experts[0].load, 0);
  EXPECT_EQ(layer.experts[0].idle, 3);
  EXPECT_EQ(layer.experts[1].load, 1.5);
  EXPECT_EQ(layer.experts[1].tokens, 10);
  EXPECT_EQ(layer.experts[1].drops, 1);
  EXPECT_EQ(layer.experts[1].mass, 0.75);
  EXPECT_EQ(layer.experts[2].id, 7);
  EXPECT_EQ(layer.experts[2].skipped, 1);
  EXPECT_TRUE(layer.experts[2].in_quarantine);
  EXPECT_EQ(layer.last(LayerRecord::kVariation), 1);
  EXPECT_EQ(layer.last(LayerRecord::kEntropy), 0.5);
  EXPECT_EQ(layer.loads.mean(1, 0), 1.5) << "six of eight";
}

TEST_F(HistoryTest, WithoutAStepIsAnError) {
  EXPECT_THROW(read_history(directory_.path() / "none"), DataError);
  EXPECT_THROW(read("{}\n[]\n"), DataError);
}

// 128 experts in each of 60 layers, over thousands of steps.
TEST(Sections, ALargeRunIsASmallPage) {
  RunHistory history;
  history.first_step = 1;
  history.last_step = 5000;
  for (int64_t number = 0; number < 60; ++number) {
    LayerRecord& layer = history.layers.emplace_back();
    layer.layer = number;
    for (int64_t step = 1; step <= 5000; step += 7) {
      for (size_t row = 0; row < 128; ++row)
        layer.loads.add(step, row, static_cast<double>((row * 7 + number) % 13) / 6);
      for (size_t row = 0; row < LayerRecord::kMeasures; ++row)
        layer.measures.add(step, row, 1.0 / static_cast<double>(step));
    }
    for (int64_t id = 0; id < 128; ++id) {
      ExpertRecord& expert = layer.experts.emplace_back();
      expert.id = id;
      expert.load = expert.mass = expert.gradient_norm = expert.update_norm = 0.1234567;
      expert.tokens = 123456;
      layer.tokens += 123456;
    }
    layer.loads.shrink(100);
    layer.measures.shrink(50);
  }
  EXPECT_LT(experts_section(history).size(), 4u << 20);
}

TEST(Chart, OnePointOrNoneIsDrawn) {
  EXPECT_NE(chart_html({"Loss", "", {{"", "a", {}}}, 1, 1}).find("not known"), std::string::npos);
  const std::string one = chart_html({"Loss", "", {{"x", "a", {{1, 0}}}}, 1, 1});
  EXPECT_NE(one.find("<circle"), std::string::npos);
  EXPECT_EQ(one.find("nan"), std::string::npos) << one;
}

}  // namespace
}  // namespace cadre::launch
