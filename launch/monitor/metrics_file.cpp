#include "launch/monitor/metrics_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "core/io/file.h"
#include "launch/monitor/load_spread.h"
#include "launch/monitor/quantity.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLineStart = "{\"step\":";

// The shortest text that reads back as the same double.
std::string number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : "null"; }

std::string list_of(const std::vector<int64_t>& values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) text += (i ? "," : "") + fmt::format("{}", values[i]);
  return text + "]";
}

// What is measured for a look at it: six digits.
std::string rounded(double value) { return std::isfinite(value) ? fmt::format("{:.6g}", value) : "null"; }

std::string list_of(std::span<const double> values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) text += (i ? "," : "") + rounded(values[i]);
  return text + "]";
}

// `,"name":[...]` unless all are 0.
std::string unless_zero(const char* name, const std::vector<int64_t>& values) {
  const bool zero = std::all_of(values.begin(), values.end(), [](int64_t value) { return value == 0; });
  return zero ? "" : fmt::format(",\"{}\":{}", name, list_of(values));
}

std::string detail_text(const LayerLoad::Detail& detail) {
  return fmt::format(",\"entropy\":{},\"mass\":{},\"grad_norm\":{},\"update_norm\":{}", rounded(detail.entropy),
                     list_of(detail.mass), list_of(detail.gradient_norm), list_of(detail.update_norm));
}

std::string dispatch_text(const DispatchTraffic& dispatch) {
  std::string text;
  const auto width = static_cast<size_t>(dispatch.expert);
  for (size_t first = 0; first < dispatch.bytes.size(); first += width) {
    text += (first ? "," : "") + list_of(std::span(dispatch.bytes).subspan(first, width));
  }
  return "\"dispatch_bytes\":[" + text + "],";
}

std::string experts_text(const std::vector<LayerLoad>& experts) {
  std::string text = "[";
  for (const LayerLoad& load : experts) {
    if (text.size() > 1) text += ',';
    text += fmt::format("{{\"layer\":{},\"tokens\":{},\"dropped\":{}", load.layer, list_of(load.tokens), load.dropped);
    if (!load.ids.empty()) text += ",\"ids\":" + list_of(load.ids);
    const LoadSpread spread = load_spread(load.tokens);
    text += fmt::format(",\"utilisation\":{},\"cv\":{},\"js\":{},\"balance_loss\":{},\"z_loss\":{}",
                        rounded(spread.utilisation), rounded(spread.variation), rounded(spread.divergence),
                        rounded(load.balance_loss), rounded(load.z_loss));
    text += unless_zero("drops", load.drops) + unless_zero("idle", load.idle_steps);
    if (load.detail) text += detail_text(*load.detail);
    if (load.isolation) {
      text += fmt::format(",\"skipped\":{},\"quarantined\":{}", list_of(load.isolation->skipped),
                          list_of(load.isolation->quarantined));
    }
    text += "}";
  }
  return text + "]";
}

std::string validation_text(const Validation& v) {
  if (v.tokens == 0) return "";
  const double bits = v.bits_per_byte > 0 ? v.bits_per_byte : std::numeric_limits<double>::quiet_NaN();
  return fmt::format(
      "\"validation_loss\":{},\"validation_perplexity\":{},\"validation_bits_per_byte\":{},\"validation_seconds\":{},",
      number(v.loss), number(v.perplexity), number(bits), number(v.seconds));
}

std::string energy_text(const StepMetrics& m) {
  if (!(m.joules > 0)) return "";
  return fmt::format("\"joules\":{},\"joules_per_token\":{},", rounded(m.joules), rounded(m.joules_per_token()));
}

// The step of a whole line, without its newline; -1 for anything else. Looks at its two ends only: a line is written in
// one piece, so it is whole or it was cut somewhere.
int64_t step_of(std::string_view line) {
  if (!line.starts_with(kLineStart) || !line.ends_with("]}")) return -1;
  line.remove_prefix(kLineStart.size());
  int64_t step = -1;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), step);
  return error == std::errc() && *end == ',' ? step : -1;
}

}  // namespace

std::string metrics_line(const StepMetrics& m, const RunInfo& info) {
  return fmt::format(
      "{}{},\"loss\":{},\"balance_loss\":{},\"z_loss\":{},\"lr\":{},\"grad_norm\":{},\"clip\":{},\"tokens\":{},"
      "\"tokens_per_second\":{},\"seconds\":{},\"mfu\":{},\"data_wait\":{},\"exposed_communication\":{},"
      "\"rank_imbalance\":{},"
      "\"memory_in_use\":{},\"memory_peak\":{},{}{}\"experts\":{}}}\n",
      kLineStart, m.step, number(m.loss), number(m.balance_loss), number(m.z_loss), number(m.learning_rate),
      number(m.gradient_norm), number(m.clip_factor), m.tokens, number(m.tokens_per_second()), number(m.seconds),
      number(share_of_peak(m.tokens_per_second(), info)), number(m.data_wait_seconds),
      number(m.exposed_communication_seconds), number(m.rank_imbalance), m.memory_in_use, m.memory_peak,
      energy_text(m) + validation_text(m.validation), m.dispatch ? dispatch_text(*m.dispatch) : "",
      experts_text(m.experts));
}

void cut_metrics(const fs::path& path, int64_t first_step) {
  if (!fs::is_regular_file(path) || fs::file_size(path) == 0) return;
  std::string kept;
  {
    const MappedFile old(path);
    std::string_view rest(reinterpret_cast<const char*>(old.bytes().data()), old.bytes().size());
    const size_t size = rest.size();
    int64_t last = 0;
    for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
      const int64_t step = step_of(rest.substr(0, end));
      if (step <= last || step >= first_step) continue;
      kept += rest.substr(0, end + 1);
      last = step;
    }
    if (kept.size() == size) return;
  }
  atomic_write(path, bytes_of(kept));
}

std::vector<LossPoint> read_losses(const fs::path& path) {
  if (!fs::is_regular_file(path)) throw SinkError(path.string() + ": no such file, or not a regular one");
  std::ifstream file(path);
  if (!file) throw SinkError(path.string() + ": cannot be read");
  std::vector<LossPoint> points;
  double tokens = 0;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object()) continue;
    const auto field = [&object](const char* key) {
      const auto found = object.find(key);
      return found != object.end() && found->is_number() ? found->get<double>()
                                                         : std::numeric_limits<double>::quiet_NaN();
    };
    const double step = field("step");
    if (!(step >= 0 && step < 1e15)) continue;
    if (field("tokens") > 0) tokens += field("tokens");
    if (std::isfinite(field("loss")))
      points.push_back({static_cast<int64_t>(step), tokens, field("loss"), field("validation_loss")});
  }
  return points;
}

void MetricsFile::on_start(const RunInfo& info) {
  info_ = info;
  const fs::path path = fs::path(info.directory) / kMetricsFileName;
  cut_metrics(path, info.first_step);
  file_ = std::make_unique<SinkFile>(path);
}

void MetricsFile::on_step(const StepMetrics& metrics) { file_->append(metrics_line(metrics, info_)); }

}  // namespace cadre::launch
