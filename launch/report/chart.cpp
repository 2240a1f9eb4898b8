#include "launch/report/chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "launch/monitor/plot.h"
#include "launch/monitor/quantity.h"
#include "launch/report/html.h"

namespace cadre::launch {
namespace {

constexpr double kLeft = 54, kRight = 10, kTop = 8, kBottom = 24;

struct Axis {
  double low, high, first, last;
  double at(double value) const { return first + (value - low) / (high - low) * (last - first); }
};

// Wide enough for what is there.
Axis value_axis(const Chart& chart) {
  double low = kUnknown, high = kUnknown;
  for (const Curve& curve : chart.curves) {
    for (const ChartPoint& point : curve.points) {
      low = std::isnan(low) ? point.y : std::min(low, point.y);
      high = std::isnan(high) ? point.y : std::max(high, point.y);
    }
  }
  if (chart.from_zero) low = std::min(low, 0.0);
  if (chart.to_one) high = std::max(high, 1.0);
  const double margin = high > low ? (high - low) * 0.04 : std::max(std::abs(high) * 0.05, 1e-9);
  return {chart.from_zero && low == 0 ? 0 : low - margin, high + margin, chart.height - kBottom, kTop};
}

// As short as tells neighbours apart.
std::string tick_text(double value, double step) {
  if (value == 0) return "0";
  if (std::abs(value) >= 10000) return count_text(value);
  if (std::abs(value) < 1e-3 || step < 1e-4) return fmt::format("{:.2g}", value);
  return fmt::format("{:.{}f}", value, std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 5));
}

std::string grid(const Chart& chart, const Axis& x, const Axis& y) {
  std::string text = "<g class=\"grid\">";
  const std::vector<double> ticks = nice_ticks(y.low, y.high, 4);
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
  for (const double tick : ticks) {
    text += fmt::format("<path d=\"M{:.0f} {:.1f}H{:.0f}\"/><text x=\"{:.0f}\" y=\"{:.1f}\" class=\"end\">{}</text>",
                        kLeft, y.at(tick), chart.width - kRight, kLeft - 6, y.at(tick) + 3.5, tick_text(tick, step));
  }
  for (const double tick : nice_ticks(x.low, x.high, 5)) {
    text += fmt::format("<text x=\"{:.1f}\" y=\"{:.0f}\" class=\"mid\">{}</text>", x.at(tick), chart.height - 7,
                        count_text(tick));
  }
  return text + "</g>";
}

std::string path(const Curve& curve, const Axis& x, const Axis& y) {
  std::string text = fmt::format("<path class=\"curve {}\" d=\"", curve.style);
  for (size_t i = 0; i < curve.points.size(); ++i)
    text += fmt::format("{}{:.1f} {:.1f}", i ? 'L' : 'M', x.at(curve.points[i].x), y.at(curve.points[i].y));
  text += "\"/>";
  const bool dots = curve.points.size() == 1 || curve.style.find("dots") != std::string::npos;
  for (size_t i = 0; dots && i < curve.points.size(); ++i) {
    text += fmt::format("<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\"/>", curve.style,
                        x.at(curve.points[i].x), y.at(curve.points[i].y));
  }
  return text;
}

}  // namespace

std::string chart_html(const Chart& chart) {
  std::string heading = "<figcaption><b>" + escaped(chart.title) + "</b>";
  if (!chart.unit.empty()) heading += " <small>" + escaped(chart.unit) + "</small>";
  std::string curves;
  bool any = false;
  for (const Curve& curve : chart.curves) {
    if (curve.points.empty()) continue;
    any = true;
    if (curve.name.empty()) continue;
    heading += fmt::format("<span class=\"key {}\">{} <b>{}</b></span>", curve.style.substr(0, 1), escaped(curve.name),
                           figure(curve.points.back().y));
  }
  heading += "</figcaption>";
  if (!any) return "<figure>" + heading + "<p class=\"none\">not known</p></figure>";
  const Axis y = value_axis(chart);
  const double last = chart.last > chart.first ? chart.last : chart.first + 1;
  const Axis x{chart.first, last, kLeft, chart.width - kRight};
  for (const Curve& curve : chart.curves) {
    if (!curve.points.empty()) curves += path(curve, x, y);
  }
  return fmt::format(
      "<figure>{}<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">{}{}</svg></figure>\n", heading,
      chart.width, chart.height, escaped(chart.title), grid(chart, x, y), curves);
}

std::vector<ChartPoint> points_of(const TimeBins& bins, size_t row) {
  std::vector<ChartPoint> points;
  for (size_t column = 0; column < bins.columns(); ++column) {
    const double mean = bins.mean(row, column);
    if (std::isfinite(mean)) points.push_back({bins.middle(column), mean});
  }
  return points;
}

}  // namespace cadre::launch
