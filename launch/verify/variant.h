#pragma once
// One way to run a case: a layout of ranks, and how its pipeline works.

#include <string>
#include <vector>

#include "parallel/mesh/layout.h"
#include "parallel/pipeline/schedule_kind.h"

namespace cadre::launch {

struct Variant {
  parallel::Layout layout{};
  parallel::ScheduleKind schedule = parallel::ScheduleKind::k1F1B;
  int stages_per_rank = 1;

  int stages() const { return layout.pipeline * stages_per_rank; }
  std::string to_string() const;  // "dp=4,ep=2,pp=2,schedule=interleaved,stages_per_rank=2"; without a pipeline, less
  bool operator==(const Variant&) const = default;
};

// As to_string() writes it, in any order; what is missing has its default, and interleaved has two stages a rank.
// Throws ConfigError.
Variant parse_variant(const std::string& text);

// Every layout of up to so many ranks that has no more stages than layers, and expert ranks only where there are
// experts; with a pipeline each schedule in turn, or, with `all_schedules`, all of them.
std::vector<Variant> all_variants(int least_ranks, int most_ranks, int64_t experts, int64_t layers, bool all_schedules);

}  // namespace cadre::launch
