#include "parallel/expert/routes.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/rng.h"

namespace cadre::parallel {
namespace {

// A row is known by where it comes from.
struct Row {
  int source;
  int64_t expert;
  int64_t number;  // among the rows of its source and expert
  auto operator<=>(const Row&) const = default;
};

std::vector<Row> reorder(const std::vector<Row>& rows, const RowOrder& order) {
  if (order.empty()) return rows;
  std::vector<Row> result;
  for (const int32_t from : order) result.push_back(rows[static_cast<size_t>(from)]);
  return result;
}

// Whole cells: all rows of a source and expert, or none.
void expect_whole(const RoutePart& part, const Placement& placement, int rank, const std::vector<int64_t>& counts) {
  const std::vector<int64_t>& held = placement.held_by(rank);
  for (int64_t i = 0; i < part.experts.count; ++i) {
    for (int source = 0; source < placement.ranks(); ++source) {
      const auto cell = static_cast<size_t>(i * placement.ranks() + source);
      const int64_t expert = held[static_cast<size_t>(part.experts.first + i)];
      const int64_t rows = part.cells[cell + 1] - part.cells[cell];
      EXPECT_TRUE(rows == 0 || rows == counts[static_cast<size_t>(source * placement.experts() + expert)]);
    }
  }
}

// Carries the rows of one part by the routes of all ranks, and checks where they end. taken[rank]: rows sent so far.
void check_part(const Placement& placement, const std::vector<Routes>& routes, size_t part,
                const std::vector<std::vector<Row>>& buffers, std::vector<int64_t>& taken) {
  const int ranks = placement.ranks();
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<Row> received;
    for (int from = 0; from < ranks; ++from) {
      const auto f = static_cast<size_t>(from);
      const int64_t rows = routes[f].parts[part].traffic.rows(from, rank);
      ASSERT_EQ(rows, routes[static_cast<size_t>(rank)].parts[part].traffic.rows(from, rank));
      received.insert(received.end(), buffers[f].begin() + taken[f], buffers[f].begin() + taken[f] + rows);
      taken[f] += rows;
    }
    const RoutePart& mine = routes[static_cast<size_t>(rank)].parts[part];
    const std::vector<Row> computed = reorder(received, mine.compute_order);
    ASSERT_EQ(mine.offsets.back(), static_cast<int64_t>(computed.size()));
    const std::vector<int64_t>& held = placement.held_by(rank);
    ASSERT_EQ(mine.offsets.size(), static_cast<size_t>(mine.experts.count) + 1);
    for (int64_t i = 0; i < mine.experts.count; ++i) {
      const int64_t expert = held[static_cast<size_t>(mine.experts.first + i)];
      const auto begin = computed.begin() + mine.offsets[static_cast<size_t>(i)],
                 end = computed.begin() + mine.offsets[static_cast<size_t>(i) + 1];
      EXPECT_TRUE(std::is_sorted(begin, end));
      EXPECT_TRUE(std::all_of(begin, end, [&](const Row& row) { return row.expert == expert; }));
    }
    EXPECT_EQ(reorder(computed, inverse_of(mine.compute_order)), received);
  }
}

void check(const Placement& placement, const std::vector<int64_t>& counts, RouteCuts cuts = {}) {
  const int ranks = placement.ranks();
  std::vector<Routes> routes;
  std::vector<std::vector<Row>> buffers(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    routes.push_back(plan_routes(placement, counts, rank, cuts));
    ASSERT_EQ(routes.back().parts.size(), static_cast<size_t>(cuts.rounds * cuts.chunks));
    for (const RoutePart& part : routes.back().parts) {
      if (cuts.whole_cells) expect_whole(part, placement, rank, counts);
    }
    for (int64_t expert = 0; expert < placement.experts(); ++expert) {
      const int64_t count = counts[static_cast<size_t>(rank * placement.experts() + expert)];
      for (int64_t i = 0; i < count; ++i) buffers[static_cast<size_t>(rank)].push_back({rank, expert, i});
    }
    buffers[static_cast<size_t>(rank)] = reorder(buffers[static_cast<size_t>(rank)], routes.back().send_order);
  }
  std::vector<int64_t> taken(static_cast<size_t>(ranks), 0);
  for (size_t part = 0; part < routes[0].parts.size(); ++part) check_part(placement, routes, part, buffers, taken);
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_EQ(taken[static_cast<size_t>(rank)], static_cast<int64_t>(buffers[static_cast<size_t>(rank)].size()));
  }
}

TEST(Routes, EveryRowReachesItsExpertInOrder) {
  Rng rng(1, RngPurpose::kTest);
  for (int64_t experts = 1; experts <= 6; ++experts) {
    for (int ranks = 1; ranks <= 6; ++ranks) {
      for (int draw = 0; draw < 4; ++draw) {
        std::vector<int64_t> counts(static_cast<size_t>(experts * ranks));
        for (int64_t& count : counts) count = draw == 0 ? 0 : static_cast<int64_t>(rng.uniform() * 4);
        if (draw == 1) {  // all to one expert
          for (size_t i = 0; i < counts.size(); ++i) counts[i] = i % static_cast<size_t>(experts) == 0 ? 5 : 0;
        }
        for (const int64_t rounds : {1, 2, 7}) {
          for (const int64_t chunks : {1, 2, 3, 5}) check(Placement::even(experts, ranks), counts, {rounds, chunks});
        }
        for (const int64_t most : {0, 1, 6}) {
          const Placement placement = Placement::even(experts, ranks);
          const int64_t rounds = rounds_needed(placement, counts, most, true);
          for (const int64_t chunks : {1, 2, 5}) check(placement, counts, {rounds, chunks, true, most});
        }
      }
    }
  }
}

TEST(Routes, APlacementNeedNotBeInOrderOfIds) {
  for (const int64_t chunks : {1, 2, 4}) {
    check(Placement({{1}, {0}, {1}, {0, 1}}, 2), {3, 1, 0, 2, 1, 4, 2, 2}, {1, chunks});
    check(Placement({{2}, {2}, {2}}, 3), {1, 2, 3, 4, 5, 6, 7, 8, 9}, {2, chunks});  // ranks without experts
  }
}

TEST(Routes, RowsInPlaceAreNotReordered) {
  const Routes routes = plan_routes(Placement::even(4, 1), {1, 2, 3, 4}, 0);
  EXPECT_TRUE(routes.send_order.empty());
  EXPECT_TRUE(routes.parts[0].compute_order.empty());
  EXPECT_EQ(routes.parts[0].offsets, (std::vector<int64_t>{0, 1, 3, 6, 10}));
  EXPECT_TRUE(plan_routes(Placement::even(4, 2), {1, 2, 3, 4, 5, 6, 7, 8}, 1).send_order.empty());
}

// So that an expert's weight gradient is one sum.
TEST(Routes, ChunksTakeWholeExpertsWhereARankHasEnough) {
  const Placement placement({{0}, {0}, {0}, {0}, {0}, {1}}, 2);
  const Routes many = plan_routes(placement, std::vector<int64_t>(12, 10), 0, {.chunks = 2});
  EXPECT_EQ(many.parts[0].experts.count, 2);
  EXPECT_EQ(many.parts[0].offsets, (std::vector<int64_t>{0, 20, 40}));
  EXPECT_EQ(many.parts[1].experts.first, 2);
  EXPECT_EQ(many.parts[1].offsets, (std::vector<int64_t>{0, 20, 40, 60}));
  const Routes one = plan_routes(placement, std::vector<int64_t>(12, 10), 1, {.chunks = 2});
  for (const RoutePart& part : one.parts) EXPECT_EQ(part.offsets, (std::vector<int64_t>{0, 10}));
}

TEST(Routes, RoundsBoundWhatARankReceives) {
  const Placement placement = Placement::even(4, 2);
  const std::vector<int64_t> counts = {40, 1, 2, 0, 60, 3, 0, 1};  // rank 0 attracts 104 rows, rank 1 three
  EXPECT_EQ(rounds_needed(placement, counts, 1000), 1);
  EXPECT_EQ(rounds_needed(placement, counts, 104), 1);
  for (const int64_t most : {103, 60, 52, 30, 10}) {
    const int64_t rounds = rounds_needed(placement, counts, most);
    EXPECT_GE(rounds, (104 + most - 1) / most);
    EXPECT_LE(rounds, (104 + most - 1) / most * 2 + 1);
    for (const RoutePart& round : plan_routes(placement, counts, 0, {rounds}).parts) {
      EXPECT_LE(round.offsets.back(), most);
    }
  }
  EXPECT_EQ(rounds_needed(placement, counts, 1), 60) << "a row of each source and expert is the least";
  EXPECT_EQ(rounds_needed(placement, std::vector<int64_t>(8, 0), 1), 1);
  EXPECT_EQ(rounds_needed(placement, counts, 45, true), 3) << "40 | 60, which is more | 1 + 3";
}

}  // namespace
}  // namespace cadre::parallel
