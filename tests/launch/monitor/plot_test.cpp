#include "launch/monitor/plot.h"

#include <cmath>
#include <limits>
#include <sstream>

#include "tests/launch/monitor/monitor_fixture.h"

namespace cadre::launch::monitor_testing {
namespace {

std::vector<LossPoint> falling(int64_t steps) {
  std::vector<LossPoint> points;
  for (int64_t i = 1; i <= steps; ++i) {
    points.push_back({i, 1000.0 * static_cast<double>(i), 2 + 6 * std::exp(-5.0 * static_cast<double>(i) / 1000)});
  }
  return points;
}

// The points attribute of each polyline.
std::vector<std::vector<std::pair<double, double>>> polylines(const std::string& svg) {
  std::vector<std::vector<std::pair<double, double>>> all;
  for (size_t at = svg.find("<polyline"); at != std::string::npos; at = svg.find("<polyline", at + 1)) {
    const size_t begin = svg.find("points=\"", at) + 8;
    std::istringstream text(svg.substr(begin, svg.find('"', begin) - begin));
    all.emplace_back();
    double x, y;
    for (char comma; text >> x >> comma >> y;) all.back().push_back({x, y});
  }
  return all;
}

void expect_well_formed(const std::string& svg) {
  std::vector<std::string> open;
  for (size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    const std::string tag = svg.substr(at + 1, svg.find('>', at) - at - 1);
    EXPECT_EQ(tag.find('<'), std::string::npos) << tag;
    EXPECT_EQ(count_of(tag, "\"") % 2, 0) << tag;
    if (tag.back() == '/') continue;
    const std::string name = tag.substr(0, tag.find(' '));
    if (name[0] != '/') {
      open.push_back(name);
      continue;
    }
    ASSERT_FALSE(open.empty());
    EXPECT_EQ("/" + open.back(), name);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty());
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(LossSvg, EachStepIsAPointOfBothLines) {
  const std::string svg = loss_svg(falling(137), "a <b> & c");
  expect_well_formed(svg);
  EXPECT_NE(svg.find("a &lt;b&gt; &amp; c"), std::string::npos);
  EXPECT_NE(svg.find(">tokens<"), std::string::npos);
  EXPECT_EQ(svg.find("http", svg.find("2000/svg")), std::string::npos) << "self-contained";
  const auto lines = polylines(svg);
  ASSERT_EQ(lines.size(), 2u);
  for (const auto& line : lines) {
    ASSERT_EQ(line.size(), 137u);
    for (size_t i = 0; i < line.size(); ++i) {
      EXPECT_GE(line[i].first, i ? line[i - 1].first : 0) << "time goes to the right";
      EXPECT_GE(line[i].second, i ? line[i - 1].second : 0) << "a falling loss goes down the page";
      EXPECT_LE(line[i].first, 800);
      EXPECT_LE(line[i].second, 450);
    }
  }
}

TEST(LossSvg, LongRunsKeepTheirSpikes) {
  std::vector<LossPoint> points = falling(50000);
  points[31234].loss = 20;
  const std::string svg = loss_svg(points, "long");
  expect_well_formed(svg);
  const auto lines = polylines(svg);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].size(), 2000u);
  EXPECT_EQ(lines[1].size(), 2000u);
  double top = 1000;
  for (const auto& [x, y] : lines[0]) top = std::min(top, y);
  EXPECT_NEAR(top, 44, 0.1) << "the spike reaches the top of the frame";
}

TEST(LossSvg, TheValidationIsACurveOfItsOwn) {
  std::vector<LossPoint> points = falling(100);
  EXPECT_EQ(loss_svg(points, "t").find("validation"), std::string::npos);
  for (size_t i = 19; i < points.size(); i += 20) points[i].validation = points[i].loss + 1;
  points[19].validation = 12;  // above all losses
  const std::string svg = loss_svg(points, "t");
  expect_well_formed(svg);
  const auto lines = polylines(svg);
  ASSERT_EQ(lines.size(), 3u);
  ASSERT_EQ(lines[2].size(), 5u);
  EXPECT_EQ(count_of(svg, "<circle"), 5);
  EXPECT_EQ(lines[2][1].first, lines[0][39].first) << "at its step";
  EXPECT_LT(lines[2][1].second, lines[0][39].second) << "a greater loss is higher";
  EXPECT_NEAR(lines[2][0].second, 44, 0.1) << "the frame holds both curves";
  EXPECT_NE(svg.find(">training<"), std::string::npos);
  EXPECT_NE(svg.find(">validation<"), std::string::npos);
  points.back().validation = std::numeric_limits<double>::infinity();
  expect_well_formed(loss_svg(points, "t"));
}

TEST(LossSvg, OddRunsAreDrawn) {
  expect_well_formed(loss_svg({}, "none"));
  expect_well_formed(loss_svg({{1, 1000, 2.5}}, "one"));
  expect_well_formed(loss_svg({{1, 0, 2.5}, {2, 0, 2.5}}, "flat"));
  expect_well_formed(loss_svg({{1, 10, 1e300}, {2, 20, -1e300}}, "huge"));
  expect_well_formed(loss_svg({{1, 10, 1e20}, {2, 20, std::nextafter(1e20, 2e20)}}, "one rounding error apart"));
  EXPECT_NE(loss_svg({{1, 0, 2.5}, {2, 0, 2}}, "no tokens").find(">steps<"), std::string::npos);
}

TEST(NiceTicks, RoundAndInside) {
  EXPECT_EQ(nice_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(nice_ticks(2.1, 8.3, 7), (std::vector<double>{3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(nice_ticks(-1, 1, 2), (std::vector<double>{-1, 0, 1}));
  EXPECT_EQ(nice_ticks(0, 1.06e6, 8).back(), 1e6);
}

TEST(TextPlot, ColumnsOfMeans) {
  EXPECT_EQ(text_plot({4, 3, 2, 1}, 4, 2, Glyphs::kAscii, "loss"),
            "   4.0000 |.  \n"
            "   1.0000 |||.\n"
            "          loss");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(text_plot({nan, 8, 8, 1, 1}, 2, 1, Glyphs::kUnicode, "c"), "   8.0000 █▁\n          c");
  EXPECT_EQ(text_plot({nan}, 10, 3, Glyphs::kAscii, "c"), "");
  EXPECT_EQ(text_plot({}, 10, 3, Glyphs::kAscii, "c"), "");
}

class LossPlotTest : public MonitorTest {};

TEST_F(LossPlotTest, OfARunDirectory) {
  MetricsFile file;
  file.on_start(info());
  for (int64_t i = 1; i <= 12; ++i) file.on_step(step(i));
  write_loss_plot(directory_);
  const std::string svg = contents(directory_ / "loss.svg");
  expect_well_formed(svg);
  EXPECT_EQ(polylines(svg).at(0).size(), 12u);
  EXPECT_NE(svg.find(directory_.filename().string()), std::string::npos);
  EXPECT_THROW(write_loss_plot(directory_ / "none"), SinkError);
}

}  // namespace
}  // namespace cadre::launch::monitor_testing
