#include "launch/trainer/reproducible.h"

#include <fmt/core.h>

#include <bit>

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
void check_reproducible(const ParallelSettings& parallel, const parallel::Layout& layout, int64_t experts,
                        int64_t micro_batches) {
  if (!parallel.reproducible) return;
  if (!is_power_of_two(micro_batches)) {
    throw ConfigError(
        fmt::format("parallel.reproducible: a rank has {} micro-batches a step; wanted a power of two, such as {}: its "
                    "sum must be a "
                    "part of the same sum elsewhere",
                    micro_batches, std::bit_floor(static_cast<uint64_t>(micro_batches))));
  }
  if (!is_power_of_two(layout.expert) && layout.expert != layout.data) {
    throw ConfigError(fmt::format(
        "parallel.reproducible: expert_parallel {}; wanted a power of two, or all {} data ranks, for the same reason",
        layout.expert, layout.data));
  }
  if (parallel.zero == 2) {
    throw ConfigError("parallel.reproducible: zero 2 sums over ranks before it sums over micro-batches; wanted 0 or 1");
  }
  if (layout.expert > 1 && (layout.expert > experts || has_replicas(parallel.placement))) {
    throw ConfigError(
        "parallel.reproducible: experts have replicas within a group, which cut an expert's sums elsewhere; "
        "wanted one holder for each");
  }
}

}  // namespace cadre::launch
