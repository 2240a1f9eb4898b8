#pragma once
// The small part of isolated experts' state, for checkpoints: an object for each, under names as selectors write them,
// with the keys that the settings make use of.

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "optim/expert_isolation.h"

namespace cadre::launch {

// `snapshot_steps`: updates that each expert's snapshot had seen, in the order of isolation.experts(); empty: there are
// no snapshots.
nlohmann::json isolation_scalars(const optim::ExpertIsolation& isolation, const std::vector<int64_t>& snapshot_steps);

// What is not there begins anew. Returns the snapshots' steps, -1 where none is known.
std::vector<int64_t> restore_isolation(const nlohmann::json& scalars, optim::ExpertIsolation& isolation);

}  // namespace cadre::launch
