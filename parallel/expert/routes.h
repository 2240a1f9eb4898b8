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

struct Routes {
  std::vector<int64_t> send_rows;     // to each rank
  std::vector<int64_t> receive_rows;  // from each rank
  RowOrder send_order;                // sorted rows -> send buffer; empty: as they are
  RowOrder compute_order;             // receive buffer -> rows by local expert; empty: as they are
  std::vector<int64_t> offsets;       // [local experts + 1], of the rows by local expert

  int64_t sent() const;
  int64_t received() const { return offsets.back(); }
};

// counts[source * experts + expert]: rows that each rank of the group routes to each expert.
Routes plan_routes(const Placement& placement, const std::vector<int64_t>& counts, int rank);

RowOrder inverse_of(const RowOrder& order);

}  // namespace cadre::parallel
