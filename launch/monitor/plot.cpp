#include "launch/monitor/plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "core/io/file.h"
#include "launch/monitor/quantity.h"

namespace cadre::launch {
namespace {

constexpr double kWidth = 800, kHeight = 450;
constexpr double kLeft = 64, kRight = 20, kTop = 44, kBottom = 52;
constexpr size_t kMostPoints = 2000;

struct Point {
  double x, y;
};

struct Axis {
  double low, high;    // data
  double first, last;  // pixels
  double at(double value) const { return first + (value - low) / (high - low) * (last - first); }
};

Axis make_axis(double low, double high, double first, double last) {
  const double margin = high > low ? 0.0 : std::max(std::abs(high) * 0.01, 1e-6);
  return {low - margin, high + margin, first, last};
}

std::vector<Point> smoothed(const std::vector<Point>& raw) {
  const double decay = 1 - 1 / std::max(1.0, static_cast<double>(raw.size()) / 50);
  std::vector<Point> smooth;
  double sum = 0, weight = 0;
  for (const Point& point : raw) {
    sum = decay * sum + point.y;
    weight = decay * weight + 1;
    smooth.push_back({point.x, sum / weight});
  }
  return smooth;
}

// Each group of neighbours becomes its least and its greatest point, in their order.
std::vector<Point> extremes(const std::vector<Point>& points) {
  if (points.size() <= kMostPoints) return points;
  std::vector<Point> kept;
  const size_t groups = kMostPoints / 2;
  for (size_t group = 0; group < groups; ++group) {
    const auto begin = points.begin() + static_cast<ptrdiff_t>(points.size() * group / groups);
    const auto end = points.begin() + static_cast<ptrdiff_t>(points.size() * (group + 1) / groups);
    const auto [least, greatest] =
        std::minmax_element(begin, end, [](const Point& a, const Point& b) { return a.y < b.y; });
    kept.push_back(*std::min(least, greatest));
    kept.push_back(*std::max(least, greatest));
  }
  return kept;
}

std::vector<Point> thinned(const std::vector<Point>& points) {
  if (points.size() <= kMostPoints) return points;
  std::vector<Point> kept;
  for (size_t i = 0; i < kMostPoints; ++i) kept.push_back(points[i * (points.size() - 1) / (kMostPoints - 1)]);
  return kept;
}

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else if (c == '&')
      safe += "&amp;";
    else if (static_cast<unsigned char>(c) < 0x20)
      safe += ' ';
    else
      safe += c;
  }
  return safe;
}

std::string text_at(double x, double y, const char* style, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, escaped(text));
}

std::string polyline(const std::vector<Point>& points, const Axis& x, const Axis& y, const char* style) {
  std::string text = "<polyline fill=\"none\" stroke-linejoin=\"round\" " + std::string(style) + " points=\"";
  for (size_t i = 0; i < points.size(); ++i) {
    text += fmt::format("{}{:.2f},{:.2f}", i ? " " : "", x.at(points[i].x), y.at(points[i].y));
  }
  return text + "\"/>\n";
}

// Grid lines and their numbers. The numbers have the decimals that tell neighbours apart.
std::string grid(const Axis& x, const Axis& y) {
  std::string text;
  const auto line = [&text](double x1, double y1, double x2, double y2) {
    text += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#dddddd\" stroke-width=\"1\"/>\n", x1,
        y1, x2, y2);
  };
  for (const double tick : nice_ticks(x.low, x.high, 8)) {
    line(x.at(tick), y.first, x.at(tick), y.last);
    text += text_at(x.at(tick), y.first + 18, "text-anchor=\"middle\"", count_text(tick));
  }
  const std::vector<double> ticks = nice_ticks(y.low, y.high, 7);
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
  const int decimals = std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 9);
  for (const double tick : ticks) {
    line(x.first, y.at(tick), x.last, y.at(tick));
    text += text_at(x.first - 8, y.at(tick) + 4, "text-anchor=\"end\"", fmt::format("{:.{}f}", tick, decimals));
  }
  return text;
}

// With a dot for each point, since there may be few, and names for both curves.
std::string validation_curve(const std::vector<Point>& points, const Axis& x, const Axis& y) {
  std::string text = polyline(points, x, y, "stroke=\"#d94801\" stroke-width=\"2\"");
  for (const Point& point : points) {
    text +=
        fmt::format("<circle cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"2.5\" fill=\"#d94801\"/>\n", x.at(point.x), y.at(point.y));
  }
  text += text_at(x.last - 8, y.last + 16, "text-anchor=\"end\" fill=\"#08519c\"", "training");
  return text + text_at(x.last - 8, y.last + 32, "text-anchor=\"end\" fill=\"#d94801\"", "validation");
}

std::string document(const std::string& body) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"12\" fill=\"#333333\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n{2}</svg>\n",
      kWidth, kHeight, body);
}

std::vector<double> column_means(const std::vector<double>& finite, int columns) {
  const size_t count = std::min(finite.size(), static_cast<size_t>(std::max(1, columns)));
  std::vector<double> means;
  for (size_t column = 0; column < count; ++column) {
    const size_t begin = finite.size() * column / count, end = finite.size() * (column + 1) / count;
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += finite[i];
    means.push_back(sum / static_cast<double>(end - begin));
  }
  return means;
}

}  // namespace

std::vector<double> nice_ticks(double low, double high, int wanted) {
  const double rough = (high - low) / std::max(1, wanted);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double multiple = rough / power;
  const double step = power * (multiple <= 1 ? 1 : multiple <= 2 ? 2 : multiple <= 5 ? 5 : 10);
  std::vector<double> ticks;
  const double first = std::ceil(low / step - 1e-9);
  const double count = std::floor(high / step + 1e-9) - first + 1;
  // Within one rounding error of the greatest doubles there is no telling how many fit.
  for (int i = 0; i < std::min(count, 4.0 * wanted); ++i) ticks.push_back(first + i == 0 ? 0 : (first + i) * step);
  return ticks;
}

std::string loss_svg(const std::vector<LossPoint>& points, const std::string& title) {
  std::string body = text_at(kLeft, 26, "font-size=\"16\"", title);
  if (points.empty()) return document(body + text_at(kLeft, 80, "", "no step has a finite loss"));
  const bool by_tokens = points.back().tokens > 0;
  std::vector<Point> raw, held_out;
  for (const LossPoint& p : points) {
    const double at = by_tokens ? p.tokens : static_cast<double>(p.step);
    raw.push_back({at, p.loss});
    if (std::isfinite(p.validation)) held_out.push_back({at, p.validation});
  }
  const std::vector<Point> smooth = smoothed(raw);
  std::vector<Point> all = raw;
  all.insert(all.end(), held_out.begin(), held_out.end());
  const auto [least, greatest] =
      std::minmax_element(all.begin(), all.end(), [](const Point& a, const Point& b) { return a.y < b.y; });
  const Axis x =
      make_axis(points.size() > 1 ? std::min(0.0, raw.front().x) : raw.front().x, raw.back().x, kLeft, kWidth - kRight);
  const Axis y = make_axis(least->y, greatest->y, kHeight - kBottom, kTop);

  std::string summary =
      fmt::format("{} steps, last {:.4f} (mean {:.4f})", points.back().step, raw.back().y, smooth.back().y);
  if (!held_out.empty()) summary += fmt::format(", validation {:.4f}", held_out.back().y);
  body += text_at(kWidth - kRight, 26, "text-anchor=\"end\"", summary);
  body += grid(x, y);
  body += polyline(extremes(raw), x, y, "stroke=\"#9ecae1\" stroke-width=\"1\"");
  body += polyline(thinned(smooth), x, y, "stroke=\"#08519c\" stroke-width=\"2\"");
  if (!held_out.empty()) body += validation_curve(thinned(held_out), x, y);
  body += text_at((x.first + x.last) / 2, kHeight - 12, "text-anchor=\"middle\"", by_tokens ? "tokens" : "steps");
  body += fmt::format("<text transform=\"translate(16 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                      (y.first + y.last) / 2, "loss (nats per token)");
  return document(body);
}

void write_loss_plot(const std::filesystem::path& directory) {
  const std::vector<LossPoint> points = read_losses(directory / kMetricsFileName);
  const std::filesystem::path whole = directory.has_filename() ? directory : directory.parent_path();
  atomic_write(directory / kLossPlotName, bytes_of(loss_svg(points, "Training loss, " + whole.filename().string())));
}

std::string text_plot(const std::vector<double>& values, int columns, int rows, Glyphs glyphs,
                      const std::string& caption) {
  static constexpr const char* kBlocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static constexpr const char* kSigns[] = {" ", ".", ":", "|"};
  const int levels = glyphs == Glyphs::kUnicode ? 8 : 3;
  std::vector<double> finite;
  std::copy_if(values.begin(), values.end(), std::back_inserter(finite), [](double v) { return std::isfinite(v); });
  if (finite.empty() || rows < 1) return "";
  const std::vector<double> means = column_means(finite, columns);
  const auto [least, greatest] = std::minmax_element(means.begin(), means.end());
  const double span = *greatest > *least ? *greatest - *least : 1;

  std::string text;
  for (int row = rows - 1; row >= 0; --row) {
    const bool labelled = row == rows - 1 || row == 0;
    text += labelled ? fmt::format("{:>9.4f} ", row == 0 && rows > 1 ? *least : *greatest) : std::string(10, ' ');
    for (const double mean : means) {
      // One level at least, so that the least column is seen too.
      const int height = 1 + static_cast<int>(std::lround((mean - *least) / span * (rows * levels - 1)));
      const int level = std::clamp(height - row * levels, 0, levels);
      text += glyphs == Glyphs::kUnicode ? kBlocks[level] : kSigns[level];
    }
    text += '\n';
  }
  return text + std::string(10, ' ') + caption;
}

}  // namespace cadre::launch
