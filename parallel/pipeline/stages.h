#pragma once
// How many layers each stage has.

#include <cstdint>
#include <vector>

namespace cadre::parallel {

// Seconds (or any unit) of one micro-batch.
struct LayerCost {
  double forward = 0;
  double backward = 0;
  double total() const { return forward + backward; }
};

enum class EmptyStages { kRefuse, kAllow };

// Cuts the layers into this many runs of neighbours such that the dearest stage is as cheap as can be; the first stage
// bears `first` besides (the embedding), the last one `last` (the head). Exact: dynamic programming over all cuts,
// O(stages x layers^2). Among equally good cuts that with the least sum of squared stage costs, then that with fewer
// layers in earlier stages, which hold more activations; sums that differ by rounding count as equal. With kAllow a
// stage may have no layer. With several stages on a rank, every one of them is balanced.
//
// Throws ConfigError when there are fewer layers than stages and empty ones are refused, or a cost is negative or not
// finite.
std::vector<int64_t> balanced_stages(const std::vector<LayerCost>& layers, int stages, LayerCost first = {},
                                     LayerCost last = {}, EmptyStages empty = EmptyStages::kRefuse);

// Explicit counts, one for each stage. Throws ConfigError naming the stage or the sum, and a valid choice.
void check_stages(const std::vector<int64_t>& layers_per_stage, int64_t layers, int stages,
                  EmptyStages empty = EmptyStages::kRefuse);

// The dearest stage of a cut, in the units of the costs.
double dearest_stage(const std::vector<int64_t>& layers_per_stage, const std::vector<LayerCost>& layers,
                     LayerCost first = {}, LayerCost last = {});

}  // namespace cadre::parallel
