#pragma once
// What the ranks tell each other of a step: everything small, in one all_reduce along data and one along the pipeline.

#include <vector>

#include "launch/trainer/step_work.h"
#include "optim/expert_isolation.h"
#include "parallel/mesh/mesh.h"

namespace cadre::launch {

// Votes that travel with a step's statistics, so that all ranks decide alike.
struct Votes {
  bool stop = false;               // any rank wants to stop
  bool checkpoint_written = true;  // every rank has written its part
};

// Of all ranks.
struct SharedTotals {
  double loss = 0;
  std::vector<double> balance_loss, z_loss;                // by MoE layer of the whole model
  std::vector<std::vector<double>> counts, loads, lowest;  // as in StepTotals
  optim::ExpertTokens tokens;                              // its faults where experts are isolated
  std::vector<std::vector<double>> score_totals;           // in steps that measure experts, as in StepTotals
  // Likewise, where there are expert ranks: [data rank * expert ranks + rank of its expert group], rows of the one that
  // the other computed, over all stages, layers and micro-batches.
  std::vector<double> rows;
  double joules = 0;  // of all hosts, since the last step; NaN: one does not tell
  Votes votes;
};

struct ShareOptions {
  double global_target_tokens = 1;
  bool loads = false;     // that a balance loss needs
  bool lowest = false;    // experts choose tokens
  bool isolated = false;  // some experts are
  bool experts = false;   // the step measures them
  double joules = 0;      // that this rank adds; NaN: it should, and does not know
};

// Collective.
SharedTotals share_totals(const parallel::Mesh& mesh, Allocator& allocator, const StepTotals& totals, const Votes& mine,
                          const ShareOptions& options);

}  // namespace cadre::launch
