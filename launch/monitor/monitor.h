#pragma once
// The observers that a config asks for.

#include <memory>
#include <vector>

#include "autograd/context.h"
#include "core/log.h"
#include "launch/monitor/observer.h"
#include "launch/settings.h"

namespace cadre::launch {

// A sink that fails (full disk, vanished directory) warns once and is left out; training never stops for it.
std::vector<std::unique_ptr<Observer>> make_observers(const MonitorSettings& settings, Logger& logger, int rank);

// FP32 FLOP/s of one rank: as configured, or measured by a short loop of fused multiply-adds on all its threads.
double peak_flops(const MonitorSettings& settings, const autograd::Context& context);

}  // namespace cadre::launch
