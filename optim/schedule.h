#pragma once
// Learning rate as a pure function of the step.

#include <cstdint>

#include "optim/settings.h"

namespace cadre::optim {

// The factor of the peak learning rate for update `step` (from 1) of `total_steps`. Warmup rises linearly and reaches 1
// at step warmup_steps. Cosine: Loshchilov and Hutter, SGDR, 2017. Warmup-stable-decay: Hu et al., MiniCPM, 2024.
double schedule_factor(const ScheduleSettings& settings, int64_t step, int64_t total_steps);

}  // namespace cadre::optim
