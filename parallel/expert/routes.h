#pragma once
// Who sends how many rows to whom, and in what order rows stand before and after: pure arithmetic on one rank.
//
// Rows of a rank come sorted by global expert, those of an expert in token order. They are exchanged in parts. A part's
// rows are sent sorted by (serving rank, expert), arrive sorted by (source, expert), and are computed sorted by (local
// expert, source): an expert sees the rows of lower ranks, that is of earlier micro-batches, first.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "parallel/expert/placement.h"
#include "parallel/expert/transport.h"

namespace cadre::parallel {

// Row i of the result is row index[i] of the source.
using RowOrder = std::vector<int32_t>;

// A run of a rank's experts, counted among those that it holds.
struct LocalExperts {
  int64_t first = 0;
  int64_t count = 0;
};

// One exchange.
struct RoutePart {
  RowTraffic traffic;
  LocalExperts experts;          // that its rows are for
  RowOrder compute_order;        // receive buffer -> rows by local expert; empty: as they are
  std::vector<int64_t> offsets;  // [experts.count + 1], of the rows by local expert
  std::vector<int64_t> cells;    // [experts.count * ranks + 1], of the rows by local expert and source
};

// How rows are cut: first into rounds, which take a part of the rows of every source and expert, then each round into
// chunks, which take experts: every rank's experts in runs of equal length; where a rank has fewer experts than there
// are chunks, parts of their rows.
//
// A cell is the rows of one source for one expert. With `whole_cells` every cell is in one part: rounds take cells one
// after the other, up to `most` rows, and where experts are too few, chunks take sources.
struct RouteCuts {
  int64_t rounds = 1;
  int64_t chunks = 1;
  bool whole_cells = false;
  int64_t most = 0;  // rows of a round of whole cells; 0: any number
};

struct Routes {
  RowOrder send_order;           // sorted rows -> by part, serving rank, expert; empty: as they are
  std::vector<RoutePart> parts;  // [round * chunks + chunk]
};

// counts[source * experts + expert]: rows that each rank of the group routes to each expert.
Routes plan_routes(const Placement& placement, const std::vector<int64_t>& counts, int rank, RouteCuts cuts = {});

// The fewest rounds in which no rank of the group receives more than `most` rows at a time; where the parts cannot be
// smaller, as many rounds as the largest count has rows; of whole cells, one that is larger has a round of its own. The
// same on every rank.
int64_t rounds_needed(const Placement& placement, const std::vector<int64_t>& counts, int64_t most,
                      bool whole_cells = false);

RowOrder inverse_of(const RowOrder& order);

}  // namespace cadre::parallel
