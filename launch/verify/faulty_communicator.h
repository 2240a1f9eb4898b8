#pragma once
// Deliberate faults, to prove that the proof finds them.

#include <memory>

#include "core/config/fields.h"
#include "parallel/mesh/mesh.h"

namespace cadre::launch {

enum class Fault {
  kNone,
  kSkippedReduction,      // dense gradients are not summed along data
  kSkippedExperts,        // experts' gradients are not summed along expert_data
  kDoubledReduction,      // one bucket of dense gradients counts twice
  kUnsynchronisedRouter,  // the first router's gradient stays local
  kDroppedRouterLoss,     // the last rank leaves out its balance losses
  kDroppedStageLoss,      // all ranks of the last of several stages do
  kUnsummedEmbedding,     // a tied embedding is not summed over first and last stage
};

// Disturbs gradient reductions along an axis: of all buckets, or of one, by its place in the order of reduction.
enum class Disturbance { kSkip, kDouble };
std::unique_ptr<parallel::Communicator> disturb_reductions(std::unique_ptr<parallel::Communicator> inner,
                                                           Disturbance disturbance, int64_t bucket = -1);

}  // namespace cadre::launch

template <>
struct cadre::config::EnumNames<cadre::launch::Fault> {
  using enum cadre::launch::Fault;
  static constexpr EnumName<cadre::launch::Fault> values[] = {{kNone, "none"},
                                                              {kSkippedReduction, "skipped_reduction"},
                                                              {kSkippedExperts, "skipped_experts"},
                                                              {kDoubledReduction, "doubled_reduction"},
                                                              {kUnsynchronisedRouter, "unsynchronised_router"},
                                                              {kDroppedRouterLoss, "dropped_router_loss"},
                                                              {kDroppedStageLoss, "dropped_stage_loss"},
                                                              {kUnsummedEmbedding, "unsummed_embedding"}};
};
