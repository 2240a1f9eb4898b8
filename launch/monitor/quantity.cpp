#include "launch/monitor/quantity.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>

namespace cadre::launch {
namespace {

constexpr double kDecay = 0.95;

std::string three_digits(double value) {
  const double size = std::abs(value);
  const int decimals = size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  std::string text = fmt::format("{:.{}f}", value, decimals);
  if (decimals == 0) return text;
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

std::string count_text(double count) {
  if (!std::isfinite(count)) return "?";
  static constexpr const char* kSuffixes[] = {"", "k", "M", "G", "T", "P"};
  size_t power = 0;
  while (std::abs(count) >= 999.5 && power + 1 < std::size(kSuffixes)) {
    count /= 1000;
    ++power;
  }
  return three_digits(count) + kSuffixes[power];
}

std::string bytes_text(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t power = 0;
  while (value >= 999.5 && power + 1 < std::size(kUnits)) {
    value /= 1024;
    ++power;
  }
  return fmt::format("{:.{}f} {}", value, power > 0 && value < 99.95 ? 1 : 0, kUnits[power]);
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12) return "?";
  const auto total = static_cast<int64_t>(std::llround(seconds));
  const int64_t days = total / 86400, hours = total / 3600 % 24, minutes = total / 60 % 60;
  if (days > 0) return fmt::format("{}d {:02}:{:02}", days, hours, minutes);
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60);
  if (minutes > 0) return fmt::format("{}:{:02}", minutes, total % 60);
  return fmt::format("{} s", total);
}

double share_of_peak(double tokens_per_second, const RunInfo& info) {
  if (!(info.peak_flops > 0) || !(info.flops_per_token > 0) || !std::isfinite(tokens_per_second)) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return tokens_per_second * info.flops_per_token / info.peak_flops;
}

void RateMeter::add(int64_t tokens, double seconds) {
  tokens_ = kDecay * tokens_ + static_cast<double>(tokens);
  seconds_ = kDecay * seconds_ + seconds;
  steps_ = kDecay * steps_ + 1;
}

}  // namespace cadre::launch
