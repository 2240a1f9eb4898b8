#pragma once
// One step of a case on a layout, through the trainer itself, and what it gives: losses and gradients.

#include <map>
#include <string>
#include <vector>

#include "launch/verify/faulty_communicator.h"
#include "launch/verify/variant.h"
#include "launch/verify/verify_case.h"
#include "parallel/comm/metered.h"
#include "parallel/expert/placement.h"

namespace cadre::launch {

// Ids by global micro-batch and MoE layer, [tokens x k] each.
using RecordedRouting = std::vector<std::vector<std::vector<int32_t>>>;

struct CaseResult {
  double loss = 0, balance_loss = 0, z_loss = 0;
  std::map<std::string, std::vector<double>> gradients;  // by segment, after all reductions
  RecordedRouting routing;
  // What this rank used, for predictions to be compared with (launch/plan).
  MemoryStats memory{};
  parallel::Traffic traffic{};
};

struct RunCase {
  Variant variant{};
  Dtype dtype = Dtype::kF64;
  const RecordedRouting* replay = nullptr;  // null: route freely
  Fault fault = Fault::kNone;
  int zero = 0;                                   // ZeRO stage
  std::vector<parallel::Placement> placements{};  // of experts (model_shard.h)
};

// The result is the whole model's, each part of a segment from the rank that owns it. Ranks are threads of this
// process. verify_case.micro_batches is a multiple of the layout's data ranks, and its layers are enough for the
// stages.
CaseResult run_case(const VerifyCase& verify_case, const RunCase& run);
// The same on the ranks of `world`, as many as the layout has; every one gets the result, but for what it used itself.
// Collective.
CaseResult run_case_on(parallel::Communicator& world, const VerifyCase& verify_case, const RunCase& run);

}  // namespace cadre::launch
