#pragma once
// `optimizer` of a config.

#include "core/config/fields.h"
#include "model/moe_settings.h"

namespace cadre::optim {

using kernels::OptimizerKind;
enum class ScheduleKind { kConstant, kLinear, kCosine, kCosineRestarts, kWarmupStableDecay };
enum class DecayShape { kLinear, kCosine, kSqrt };

struct ScheduleSettings {
  ScheduleKind kind = ScheduleKind::kCosine;
  int64_t warmup_steps = 0;
  double min_lr_ratio = 0.1;    // of the peak, at the end
  int64_t period_steps = 1000;  // cosine_restarts: steps of the first cycle
  double period_factor = 1.0;   // and how much longer each next one is
  double decay_fraction = 0.2;  // wsd: part of the run, at its end, that decays
  DecayShape decay_shape = DecayShape::kLinear;
};

struct OptimizerSettings {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double lr = 3e-4;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double momentum = 0.9;
  bool nesterov = false;
  std::optional<double> clip_norm = 1.0;
  ScheduleSettings schedule;
};

}  // namespace cadre::optim

namespace cadre::config {
template <>
struct EnumNames<optim::ScheduleKind> {
  using enum optim::ScheduleKind;
  static constexpr EnumName<optim::ScheduleKind> values[] = {{kConstant, "constant"},
                                                             {kLinear, "linear"},
                                                             {kCosine, "cosine"},
                                                             {kCosineRestarts, "cosine_restarts"},
                                                             {kWarmupStableDecay, "wsd"}};
};
template <>
struct EnumNames<optim::DecayShape> {
  using enum optim::DecayShape;
  static constexpr EnumName<optim::DecayShape> values[] = {{kLinear, "linear"}, {kCosine, "cosine"}, {kSqrt, "sqrt"}};
};
template <>
struct Schema<optim::ScheduleSettings> {
  static void fields(Fields<optim::ScheduleSettings>& f);
};
template <>
struct Schema<optim::OptimizerSettings> {
  static void fields(Fields<optim::OptimizerSettings>& f);
};
}  // namespace cadre::config
