#include "launch/monitor/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "launch/monitor/plot.h"

namespace cadre::launch {
namespace {

constexpr double kRedrawSeconds = 0.05;
constexpr int kPlotRows = 6, kPlotColumns = 64;

void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

std::vector<std::string> fields_of(const StepMetrics& m, const RunInfo& info, const RateMeter& rate, Detail detail) {
  std::vector<std::string> fields = {fmt::format("step {}/{}", m.step, info.total_steps),
                                     fmt::format("loss {:.4f}", m.loss)};
  if (m.validation.tokens > 0) {
    std::string text = fmt::format("validation {:.4f}", m.validation.loss);
    const bool bits = detail == Detail::kFull && m.validation.bits_per_byte > 0;
    if (bits) text += fmt::format(" ({:.3f} bits per byte)", m.validation.bits_per_byte);
    fields.push_back(std::move(text));
  }
  if (detail == Detail::kFull) {
    fields.push_back(fmt::format("lr {:.2e}", m.learning_rate));
    fields.push_back(fmt::format("norm {:.3f}", m.gradient_norm));
  }
  fields.push_back(count_text(rate.tokens_per_second()) + " tokens/s");
  const double share = share_of_peak(rate.tokens_per_second(), info);
  if (std::isfinite(share)) fields.push_back(fmt::format("{:.1f}% of peak", 100 * share));
  if (m.memory_peak > 0) fields.push_back(bytes_text(m.memory_peak));
  const auto left = static_cast<double>(std::max<int64_t>(0, info.total_steps - m.step));
  fields.push_back("ETA " + duration_text(left * rate.seconds_per_step()));
  return fields;
}

}  // namespace

int terminal_columns() {
  if (const char* text = std::getenv("CADRE_TERMINAL"); text != nullptr && *text != 0) {
    char* end = nullptr;
    const long columns = std::strtol(text, &end, 10);
    if (*end == 0 && columns >= 0) return static_cast<int>(std::min(columns, 1000L));
  }
  if (::isatty(STDERR_FILENO) == 0) return 0;
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool terminal_has_unicode() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == 0) continue;
    const std::string_view locale = value;
    return locale.find("UTF-8") != locale.npos || locale.find("utf8") != locale.npos ||
           locale.find("utf-8") != locale.npos;
  }
  return false;
}

std::string fit_fields(const std::vector<std::string>& fields, size_t columns) {
  std::string text = fields.empty() ? "" : fields[0].substr(0, columns);
  for (size_t i = 1; i < fields.size() && text.size() + 2 + fields[i].size() <= columns; ++i) text += "  " + fields[i];
  return text;
}

std::string progress_text(const StepMetrics& metrics, const RunInfo& info, const RateMeter& rate, Detail detail) {
  return fit_fields(fields_of(metrics, info, rate, detail), std::numeric_limits<size_t>::max());
}

std::string event_text(const optim::ExpertEvent& event, int64_t step) {
  using Kind = optim::ExpertEvent::Kind;
  const std::string who = fmt::format("step {}: layers.{}.experts.{}: ", step, event.layer, event.expert);
  if (event.kind == Kind::kReadmitted) return who + "the quarantine is over";
  const std::string why =
      event.faults > 0 ? fmt::format("{} of its rows are not finite", event.faults) : "its gradient is not finite";
  if (event.kind == Kind::kSkipped) return who + why + "; it goes without this step's update";
  return who + why + fmt::format("; it goes back to its snapshot, in quarantine until step {}", event.until);
}

Progress::Progress(Logger& logger, int64_t log_every, int columns, int descriptor, bool unicode)
    : logger_(logger),
      log_every_(std::max<int64_t>(1, log_every)),
      columns_(columns),
      descriptor_(descriptor),
      unicode_(unicode),
      undrawn_seconds_(kRedrawSeconds) {}

// An error that ends the run is printed below the last state, not over it.
Progress::~Progress() {
  if (drawn_) write_all(descriptor_, "\n");
}

void Progress::on_start(const RunInfo& info) {
  info_ = info;
  std::string text = fmt::format("steps {} to {} on {} rank{}: {} parameters, {} active for a token", info.first_step,
                                 info.total_steps, info.ranks, info.ranks == 1 ? "" : "s",
                                 count_text(static_cast<double>(info.parameters)),
                                 count_text(static_cast<double>(info.active_parameters)));
  if (info.peak_flops > 0) text += fmt::format("; peak {}FLOP/s", count_text(info.peak_flops));
  logger_.info(text);
}

void Progress::on_step(const StepMetrics& metrics) {
  const Validation before = last_.validation;
  last_ = metrics;
  losses_.push_back(metrics.loss);
  rate_.add(metrics.tokens, metrics.seconds);
  warn_of_events();
  if (columns_ == 0) {
    const bool due = metrics.step % log_every_ == 0 || metrics.step == info_.total_steps;
    if (due || metrics.validation.tokens > 0) log_step();
    return;
  }
  if (metrics.validation.tokens == 0) last_.validation = before;  // the latest one stays on the line
  undrawn_seconds_ += metrics.seconds + metrics.validation.seconds;
  if (undrawn_seconds_ >= kRedrawSeconds || metrics.step == info_.total_steps) draw();
}

void Progress::on_checkpoint(int64_t, const std::string& directory, double seconds) {
  clear();
  logger_.info(fmt::format("checkpoint {} ({:.2f} s)", directory, seconds));
  if (columns_ > 0 && last_.step > 0) draw();
}

void Progress::on_finish() {
  if (last_.step == 0) return;
  if (columns_ == 0) {
    if (logged_step_ != last_.step) log_step();
    return;
  }
  draw();
  const int room = std::min(columns_ - 11, kPlotColumns);
  const std::string caption =
      fmt::format("loss, steps {} to {}", last_.step - static_cast<int64_t>(losses_.size()) + 1, last_.step);
  std::string text = "\n";
  if (room >= 16 && losses_.size() > 1) {
    text += text_plot(losses_, room, kPlotRows, unicode_ ? Glyphs::kUnicode : Glyphs::kAscii, caption) + "\n";
  }
  write_all(descriptor_, text);
  drawn_ = false;
}

// The cursor stays at the start of the line, so that a message of someone else is written over it, not behind it.
void Progress::draw() {
  const auto room = static_cast<size_t>(std::max(1, columns_ - 1));
  write_all(descriptor_, "\r" + fit_fields(fields_of(last_, info_, rate_, Detail::kLive), room) + "\x1b[K\r");
  undrawn_seconds_ = 0;
  drawn_ = true;
}

void Progress::clear() {
  if (drawn_) write_all(descriptor_, "\r\x1b[K");
  drawn_ = false;
}

void Progress::warn_of_events() {
  if (!last_.events.empty()) clear();
  for (const optim::ExpertEvent& event : last_.events) logger_.warning(event_text(event, last_.step));
}

void Progress::log_step() {
  logger_.info(progress_text(last_, info_, rate_, Detail::kFull));
  logged_step_ = last_.step;
}

}  // namespace cadre::launch
