#include "launch/trainer/reproducible.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <string>

#include "core/error.h"

namespace cadre::launch {
namespace {

bool is_power_of_two(int64_t number) { return std::has_single_bit(static_cast<uint64_t>(number)); }

bool has_replicas(const PlacementSettings& placement) {
  if (placement.kind == PlacementKind::kBalanced) return placement.replicas > 0;
  for (const std::vector<int64_t>& holders : placement.holders) {
    if (holders.size() > 1) return true;
  }
  return false;
}

}  // namespace

// A rank's micro-batches, and those of an expert group's ranks, must be nodes of one binary tree over all of them.
std::string reproducible_obstacle(const ParallelSettings& parallel, const parallel::Layout& layout,
                                  const model::ExpertLayout& experts, int64_t micro_batches) {
  if (!is_power_of_two(micro_batches)) {
    return fmt::format(
        "a rank has {} micro-batches a step; wanted a power of two, such as {}: its sum must be a part of the same sum "
        "elsewhere",
        micro_batches, std::bit_floor(static_cast<uint64_t>(micro_batches)));
  }
  if (!is_power_of_two(layout.expert) && layout.expert != layout.data) {
    return fmt::format("expert_parallel {}; wanted a power of two, or all {} data ranks, for the same reason",
                       layout.expert, layout.data);
  }
  if (parallel.zero == 2) return "zero 2 sums over ranks before it sums over micro-batches; wanted 0 or 1";
  if (layout.expert > 1 &&
      (layout.expert > experts.fewest_computing() || experts.has_copies() || has_replicas(parallel.placement))) {
    return "experts have replicas within a group, which cut an expert's sums elsewhere; wanted one holder for each";
  }
  return "";
}

ExtraGradients extra_gradients(const parallel::Layout& layout, int64_t micro_batches) {
  const int64_t levels = std::bit_width(static_cast<uint64_t>(micro_batches)) - 1;
  const int64_t lanes = layout.expert;
  return {levels, lanes == 1 ? levels : lanes * (levels + 1)};
}

void decide_reproducible(ParallelSettings& parallel, const parallel::Layout& layout, const model::ExpertLayout& experts,
                         int64_t micro_batches) {
  constexpr int64_t kMost = 2;
  if (!parallel.reproducible.value.value_or(true)) return;
  const std::string reason = reproducible_obstacle(parallel, layout, experts, micro_batches);
  if (!parallel.reproducible.is_auto()) {
    if (!reason.empty()) throw ConfigError("parallel.reproducible: " + reason);
    return;
  }
  const ExtraGradients extra = extra_gradients(layout, micro_batches);
  parallel.reproducible =
      reason.empty() && std::max(extra.dense, extra.experts) <= kMost && !parallel.max_dispatch_tokens;
}

}  // namespace cadre::launch
