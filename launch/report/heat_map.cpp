#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "launch/monitor/plot.h"
#include "launch/monitor/quantity.h"
#include "launch/report/chart.h"
#include "launch/report/html.h"
#include "launch/report/png.h"

namespace cadre::launch {
namespace {

// Place 0: nothing known; 1 .. 15: a quarter of the fair load or less, ..., fair (8), ..., four times it or more.
constexpr int kFair = 8, kLevels = 15;
constexpr double kOctaves = 2;

int level_of(double load) {
  if (!std::isfinite(load)) return 0;
  if (!(load > 0)) return 1;
  const double octaves = std::clamp(std::log2(load), -kOctaves, kOctaves);
  return kFair + static_cast<int>(std::lround(octaves / kOctaves * (kFair - 1)));
}

// What is fair lets the page shine through, in light and in dark.
std::vector<Colour> palette() {
  std::vector<Colour> colours{{0, 0, 0, 0}};
  for (int level = 1; level <= kLevels; ++level) {
    const int distance = std::abs(level - kFair);
    if (level == kFair) {
      colours.push_back({128, 128, 128, 18});
      continue;
    }
    const auto opacity = static_cast<uint8_t>(16 + 239 * distance / (kFair - 1));
    colours.push_back(level < kFair ? Colour{42, 106, 208, opacity} : Colour{226, 88, 34, opacity});
  }
  return colours;
}

std::string image_of(const std::vector<uint8_t>& pixels, size_t width) {
  return "data:image/png;base64," + base64(png(pixels, width, palette()));
}

}  // namespace

std::string heat_map_html(const LayerRecord& layer) {
  const TimeBins& loads = layer.loads;
  const size_t rows = layer.experts.size(), columns = loads.columns();
  if (rows == 0 || columns == 0) return "<p class=\"none\">no loads</p>";
  std::vector<uint8_t> pixels;
  for (size_t row = 0; row < rows; ++row) {
    for (size_t column = 0; column < columns; ++column)
      pixels.push_back(static_cast<uint8_t>(level_of(loads.mean(row, column))));
  }
  constexpr double kLeft = 46, kWidth = 1030, kRight = 10;
  const double of_row = std::clamp(260.0 / static_cast<double>(rows), 2.0, 18.0);
  const double height = of_row * static_cast<double>(rows);
  std::string text = fmt::format(
      "<svg class=\"heat\" viewBox=\"0 0 {0} {1:.0f}\" role=\"img\" aria-label=\"load of each expert over steps\">"
      "<rect x=\"{2}\" y=\"0\" width=\"{3}\" height=\"{4:.1f}\"/><image x=\"{2}\" y=\"0\" width=\"{3}\" "
      "height=\"{4:.1f}\" "
      "preserveAspectRatio=\"none\" href=\"{5}\"/><g class=\"grid\">",
      kWidth, height + 24, kLeft, kWidth - kLeft - kRight, height, image_of(pixels, columns));
  const size_t stride = std::max<size_t>(1, static_cast<size_t>(std::ceil(12 / of_row)));
  for (size_t row = 0; row < rows; row += stride) {
    text += fmt::format("<text x=\"{}\" y=\"{:.1f}\" class=\"end\">{}</text>", kLeft - 6,
                        (static_cast<double>(row) + 0.5) * of_row + 3.5, layer.experts[row].id);
  }
  const auto first = static_cast<double>(loads.first()), end = static_cast<double>(loads.end());
  for (const double tick : nice_ticks(first, std::max(end, first + 1), 8)) {
    text +=
        fmt::format("<text x=\"{:.1f}\" y=\"{:.0f}\" class=\"mid\">{}</text>",
                    kLeft + (tick - first) / (end - first) * (kWidth - kLeft - kRight), height + 16, count_text(tick));
  }
  return text + "</g></svg>\n";
}

std::string heat_map_legend_html() {
  std::vector<uint8_t> pixels;
  for (int level = 1; level <= kLevels; ++level) pixels.push_back(static_cast<uint8_t>(level));
  return "<p class=\"legend\">load of an expert, as a multiple of the fair share: <span>¼ or less</span><img alt=\"\" "
         "src=\"" +
         image_of(pixels, pixels.size()) + "\"><span>4 or more</span></p>";
}

}  // namespace cadre::launch
