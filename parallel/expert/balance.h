#pragma once
// Which ranks should hold which experts, given how much work each expert attracts.

#include <vector>

#include "parallel/expert/placement.h"

namespace cadre::parallel {

// Rows (or any unit) that each expert attracts, from all ranks of the group alike.
using ExpertLoads = std::vector<double>;

// What each rank computes under a placement.
std::vector<double> rank_loads(const Placement& placement, const ExpertLoads& loads);
// The fullest rank's over the mean; 1 is perfect, and what no load has.
double imbalance(const Placement& placement, const ExpertLoads& loads);

// A placement that evens out the ranks: up to `replicas` more copies go, one by one, to the expert whose copies are the
// fullest; then copies are packed, the fullest first, each onto the emptiest rank that has room and not that expert
// (longest processing time first; Graham, "Bounds on multiprocessing timing anomalies", 1969). No rank holds more than
// its even share of all copies, rounded up. A function of its arguments alone, so that all ranks find the same.
Placement balanced_placement(const ExpertLoads& loads, int ranks, int replicas = 0);

}  // namespace cadre::parallel
