#pragma once
// From a step's sums to what is reported of experts.

#include <vector>

#include "launch/monitor/observer.h"
#include "launch/trainer/expert_history.h"
#include "launch/trainer/shared_totals.h"
#include "optim/optimizer.h"

namespace cadre::launch {

// By MoE layer. `history` has seen the step; `norms` is empty in steps that do not measure experts.
std::vector<LayerLoad> layer_loads(const model::ExpertLayout& layout, const SharedTotals& shared,
                                   const ExpertHistory& history, const std::vector<optim::ExpertNorms>& norms);

// `row_bytes`: of one row. Nothing where no rows were counted.
std::optional<DispatchTraffic> dispatch_traffic(const SharedTotals& shared, const parallel::Layout& layout,
                                                double row_bytes);

}  // namespace cadre::launch
