#pragma once
// Pictures of a report, as inline SVG. Colours are classes of the page's style.

#include <string>
#include <vector>

#include "launch/report/run_history.h"

namespace cadre::launch {

struct ChartPoint {
  double x = 0, y = 0;
};

struct Curve {
  std::string name;   // in the legend; empty: none
  std::string style;  // classes: "a" or "b", with "faint" or "dots"
  std::vector<ChartPoint> points;
};

struct Chart {
  std::string title, unit;
  std::vector<Curve> curves;
  double first = 0, last = 1;  // steps
  bool from_zero = false;      // the axis begins there
  bool to_one = false;         // and ends there, at least
  double width = 500, height = 190;
};

// A figure with title, legend, and the last value of each named curve. Without points, it says so.
std::string chart_html(const Chart& chart);

// The row's means, as points.
std::vector<ChartPoint> points_of(const TimeBins& bins, size_t row);

// Load over time: a row for each expert, in a palette that is even where loads are fair.
std::string heat_map_html(const LayerRecord& layer);
std::string heat_map_legend_html();

}  // namespace cadre::launch
