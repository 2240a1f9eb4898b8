#pragma once
// What ranks send each other in a step, and how long that takes.

#include "launch/plan/device.h"
#include "launch/plan/stage_plan.h"
#include "model/expert_layout.h"
#include "parallel/mesh/layout.h"

namespace cadre::launch {

// Bytes that a rank of this pipeline coordinate has to send to others, by axis and collective; as a metered
// communicator counts them (parallel/comm/metered.h).
parallel::Traffic rank_traffic(const Settings& settings, const model::ExpertLayout& experts,
                               const parallel::Layout& layout, const StagePlan& plan, int rank, bool reproducible);

// Of the traffic along one axis. Members of a group that are neighbours on a node reach each other by the near link,
// the others by the far one.
double traffic_seconds(const Device& device, const parallel::Layout& layout, parallel::Axis axis,
                       const parallel::Traffic& traffic);

}  // namespace cadre::launch
