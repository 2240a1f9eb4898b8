#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "launch/monitor/quantity.h"
#include "launch/report/chart.h"
#include "launch/report/html.h"
#include "launch/report/sections.h"

namespace cadre::launch {
namespace {

constexpr size_t kMostPoints = 400;

std::string tile(const std::string& name, const std::string& value, const std::string& unit) {
  return fmt::format("<div class=\"tile\"><span>{}</span><b>{}</b><small>{}</small></div>", name, value, unit);
}

// Every step where there are few; else means of equal runs of steps.
std::vector<ChartPoint> loss_points(const std::vector<LossPoint>& losses, bool validation) {
  TimeBins bins(kMostPoints);
  for (const LossPoint& point : losses) bins.add(point.step, 0, validation ? point.validation : point.loss);
  if (!validation) return points_of(bins, 0);
  std::vector<ChartPoint> points;  // few, and at their own steps
  for (const LossPoint& point : losses) {
    if (std::isfinite(point.validation)) points.push_back({static_cast<double>(point.step), point.validation});
  }
  return points.size() <= kMostPoints ? points : points_of(bins, 0);
}

// Exponential mean over about a thirtieth of them.
std::vector<ChartPoint> smoothed(std::vector<ChartPoint> points) {
  const double decay = 1 - 1 / std::max(1.0, static_cast<double>(points.size()) / 30);
  double sum = 0, weight = 0;
  for (ChartPoint& point : points) {
    sum = decay * sum + point.y;
    weight = decay * weight + 1;
    point.y = sum / weight;
  }
  return points;
}

double last_validation(const RunHistory& history) {
  for (auto point = history.losses.rbegin(); point != history.losses.rend(); ++point) {
    if (std::isfinite(point->validation)) return point->validation;
  }
  return kUnknown;
}

double last_loss(const RunHistory& history) {
  const std::vector<ChartPoint> points = smoothed(loss_points(history.losses, false));
  return points.empty() ? kUnknown : points.back().y;
}

}  // namespace

std::string summary_section(const RunHistory& history) {
  std::string tiles = tile("training loss", figure(last_loss(history)), "nats a token, smoothed");
  if (const double loss = last_validation(history); std::isfinite(loss)) {
    tiles += tile("validation loss", figure(loss), fmt::format("nats a token, perplexity {}", figure(std::exp(loss))));
  }
  if (std::isfinite(history.bits_per_byte)) tiles += tile("bits per byte", figure(history.bits_per_byte), "held out");
  tiles += tile("steps", whole(history.last_step), fmt::format("{} are in the metrics", whole(history.steps)));
  tiles += tile("tokens", count_text(history.tokens), fmt::format("in {} of steps", duration_text(history.seconds)));
  if (history.seconds > 0) tiles += tile("tokens a second", count_text(history.tokens / history.seconds), "mean");
  if (history.joule_tokens > 0) {
    tiles += tile("energy", figure(history.joules / history.joule_tokens), "joules a token, CPU packages");
    tiles += tile("in all", count_text(history.joules / 3600) + " Wh", "of the steps that tell");
  }
  std::string text = "<section class=\"tiles\">" + tiles + "</section>\n";
  if (history.bad_lines > 0) {
    text += fmt::format("<p class=\"note\">{} lines of metrics.jsonl are no steps and were passed over.</p>\n",
                        whole(history.bad_lines));
  }
  return text;
}

std::string training_section(const RunHistory& history) {
  const auto first = static_cast<double>(history.first_step), last = static_cast<double>(history.last_step);
  const auto chart = [&](const char* title, const char* unit, std::vector<Curve> curves) {
    return chart_html({title, unit, std::move(curves), first, last});
  };
  const auto quantity = [&](const char* title, const char* unit, RunHistory::Quantity which) {
    return chart(title, unit, {{"last", "a", points_of(history.quantities, which)}});
  };
  const std::vector<ChartPoint> losses = loss_points(history.losses, false);
  std::string text = "<section><h2>Training</h2><div class=\"charts\">";
  text += chart("Loss", "nats a token",
                {{"", "a faint", losses},
                 {"training", "a", smoothed(losses)},
                 {"validation", "b dots", loss_points(history.losses, true)}});
  text += quantity("Gradient norm", "before clipping", RunHistory::kGradientNorm);
  text += quantity("Learning rate", "", RunHistory::kLearningRate);
  text += quantity("Throughput", "tokens a second", RunHistory::kTokensPerSecond);
  if (history.joule_tokens > 0) text += quantity("Energy", "joules a token", RunHistory::kJoulesPerToken);
  return text + "</div></section>\n";
}

std::string config_section(const std::string& config) {
  if (config.empty())
    return "<section><h2>Config</h2><p class=\"none\">config.resolved.yaml is not there</p></section>\n";
  return "<section><h2>Config</h2><details><summary>config.resolved.yaml</summary><pre>" + escaped(config) +
         "</pre></details></section>\n";
}

}  // namespace cadre::launch
