#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace cadre::optim {
namespace {

// From 1 at progress 0 to 0 at progress 1.
double cosine(double progress) { return 0.5 * (1 + std::cos(std::numbers::pi * progress)); }

double between(double floor, double shape) { return floor + (1 - floor) * shape; }

double restarts(const ScheduleSettings& s, double steps_after_warmup) {
  double period = static_cast<double>(s.period_steps), position = steps_after_warmup;
  while (position >= period) {
    position -= period;
    period *= s.period_factor;
  }
  return cosine(position / period);
}

double stable_decay(const ScheduleSettings& s, double step, double total) {
  const double length = s.decay_fraction * total, start = total - length;
  if (step <= start || length <= 0) return 1;
  const double progress = std::min(1.0, (step - start) / length);
  switch (s.decay_shape) {
    case DecayShape::kLinear: return 1 - progress;
    case DecayShape::kCosine: return cosine(progress);
    case DecayShape::kSqrt: return 1 - std::sqrt(progress);
  }
  return 1;
}

}  // namespace

double schedule_factor(const ScheduleSettings& s, int64_t step, int64_t total_steps) {
  if (step < s.warmup_steps) return static_cast<double>(step) / static_cast<double>(s.warmup_steps);
  const double after = static_cast<double>(step - s.warmup_steps);
  const double span = static_cast<double>(std::max<int64_t>(1, total_steps - s.warmup_steps));
  const double progress = std::min(1.0, after / span);
  switch (s.kind) {
    case ScheduleKind::kConstant: return 1;
    case ScheduleKind::kLinear: return between(s.min_lr_ratio, 1 - progress);
    case ScheduleKind::kCosine: return between(s.min_lr_ratio, cosine(progress));
    case ScheduleKind::kCosineRestarts: return between(s.min_lr_ratio, restarts(s, after));
    case ScheduleKind::kWarmupStableDecay:
      return between(s.min_lr_ratio, stable_decay(s, static_cast<double>(step), static_cast<double>(total_steps)));
  }
  return 1;
}

}  // namespace cadre::optim
