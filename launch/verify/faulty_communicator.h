#pragma once
// Deliberate faults, to prove that the proof finds them.

#include <memory>
#include <string>

#include "core/config/fields.h"
#include "parallel/mesh/mesh.h"

namespace cadre::launch {

enum class Fault {
  kNone,
  kSkippedReduction,      // dense gradients are not summed along data
  kSkippedExperts,        // experts' gradients are not summed over the ranks that hold them
  kDoubledReduction,      // one bucket of dense gradients counts twice
  kUnsynchronisedRouter,  // the first router's gradient stays local
  kDroppedRouterLoss,     // the last rank leaves out its balance losses
  kDroppedStageLoss,      // all ranks of the last of several stages do
  kUnsummedEmbedding,     // a tied embedding is not summed over first and last stage
};

// Disturbs the reductions with a label: of all buckets, or of one, by its place in the order of reduction. Skipped, the
// others' contributions count as zero; doubled, what arrives counts twice.
enum class Disturbance { kSkip, kDouble };
std::unique_ptr<parallel::Communicator> disturb_reductions(std::unique_ptr<parallel::Communicator> inner,
                                                           Disturbance disturbance, std::string label,
                                                           int64_t bucket = -1);

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
