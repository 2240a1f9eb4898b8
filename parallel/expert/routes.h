#pragma once
// Who sends how many rows to whom, and in what order rows stand before and after: pure arithmetic on one rank.
//
// Rows of a rank come sorted by global expert, those of an expert in token order. They are sent sorted by (serving
// rank, expert), arrive sorted by (source, expert), and are computed sorted by (local expert, source): an expert sees
// the rows of lower ranks, that is of earlier micro-batches, first.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "parallel/expert/placement.h"

namespace cadre::parallel {

// Row i of the result is row index[i] of the source.
using RowOrder = std::vector<int32_t>;

// One exchange.
struct Round {
  std::vector<int64_t> send_rows;     // to each rank
  std::vector<int64_t> receive_rows;  // from each rank
  RowOrder compute_order;             // receive buffer -> rows by local expert; empty: as they are
  std::vector<int64_t> offsets;       // [local experts + 1], of the rows by local expert

  int64_t sent() const;
  int64_t received() const { return offsets.back(); }
};

// All rows in one round or more; round r takes the r-th part of the rows of every source and expert.
struct Routes {
  RowOrder send_order;  // sorted rows -> by round, serving rank, expert; empty: as they are
  std::vector<Round> rounds;
};

// counts[source * experts + expert]: rows that each rank of the group routes to each expert.
Routes plan_routes(const Placement& placement, const std::vector<int64_t>& counts, int rank, int64_t rounds = 1);

// The fewest rounds in which no rank of the group receives more than `most` rows at a time; where the parts cannot be
// smaller, as many rounds as the largest count has rows. The same on every rank.
int64_t rounds_needed(const Placement& placement, const std::vector<int64_t>& counts, int64_t most);

RowOrder inverse_of(const RowOrder& order);

}  // namespace cadre::parallel
