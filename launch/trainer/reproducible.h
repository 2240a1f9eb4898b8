#pragma once
// Whether a layout's sums can have the bits of every other layout's, and what that takes.

#include <string>

#include "launch/settings.h"
#include "model/expert_layout.h"
#include "parallel/mesh/layout.h"

namespace cadre::launch {

// Gradient buffers of a rank besides the gradients themselves, in multiples of them: of each parameter that is not an
// expert's, and of each that is (autograd/gradient_tree.h). `micro_batches`: of a rank and step.
struct ExtraGradients {
  int64_t dense = 0, experts = 0;
};
ExtraGradients extra_gradients(const parallel::Layout& layout, int64_t micro_batches);

// What keeps sums from having the bits of every other layout's, and the nearest that does not; empty: nothing.
std::string reproducible_obstacle(const ParallelSettings& parallel, const parallel::Layout& layout,
                                  const model::ExpertLayout& experts, int64_t micro_batches);

// parallel.reproducible: true throws ConfigError naming the key that is in the way, with the nearest that is not. auto
// becomes true where nothing is, where it takes no more than two more gradient buffers, and where no bound on rows
// (max_dispatch_tokens) would have to give way to it.
void decide_reproducible(ParallelSettings& parallel, const parallel::Layout& layout, const model::ExpertLayout& experts,
                         int64_t micro_batches);

}  // namespace cadre::launch
