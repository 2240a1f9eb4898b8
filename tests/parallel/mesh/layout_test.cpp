#include "parallel/mesh/layout.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error.h"

namespace cadre::parallel {
namespace {

std::string message_of(const LayoutRequest& request, int ranks) {
  try {
    resolve_layout(request, ranks);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Layout, AbsentPartsAreChosen) {
  EXPECT_EQ(resolve_layout({}, 6), (Layout{6, 1, 1}));
  EXPECT_EQ(resolve_layout({.pipeline = 2}, 6), (Layout{3, 2, 1}));
  EXPECT_EQ(resolve_layout({.data = 2}, 6), (Layout{2, 3, 1}));
  EXPECT_EQ(resolve_layout({.data = 4, .pipeline = 2, .expert = 2}, 8), (Layout{4, 2, 2}));
  EXPECT_EQ(resolve_layout({.expert = 6}, 6), (Layout{6, 1, 6}));
}

TEST(Layout, ImpossibleOnesNameTheNumbersAndTheNearest) {
  EXPECT_EQ(message_of({.pipeline = 3}, 8),
            "parallel.pipeline_parallel: 3 stages for 8 ranks; wanted a divisor, such as 2 or 4");
  EXPECT_EQ(message_of({.pipeline = 9}, 8),
            "parallel.pipeline_parallel: 9 stages for 8 ranks; wanted a divisor, such as 8");
  EXPECT_EQ(message_of({.expert = 3}, 8),
            "parallel.expert_parallel: 3 does not divide data_parallel, 8 (8 ranks in 1 stages); wanted 2 or 4");
  EXPECT_EQ(message_of({.data = 3, .pipeline = 2}, 8),
            "parallel.data_parallel: 3 x 2 pipeline stages is 6 ranks, but 8 were started; wanted 4 (or auto), or "
            "mpirun -n 6");
}

TEST(Layout, FoldsTheDesignsExample) {
  const Layout layout{4, 2, 2};  // dp=4, ep=2, pp=2
  EXPECT_EQ(layout.ranks(), 8);
  EXPECT_EQ(layout.expert_data(), 2);
  EXPECT_EQ(coordinates_of(layout, 6), (Coordinates{1, 2, 0, 1}));
  EXPECT_EQ(group_of(layout, Axis::kData, 6), (std::vector{4, 5, 6, 7}));
  EXPECT_EQ(group_of(layout, Axis::kExpert, 6), (std::vector{6, 7}));
  EXPECT_EQ(group_of(layout, Axis::kExpertData, 6), (std::vector{4, 6}));
  EXPECT_EQ(group_of(layout, Axis::kPipeline, 6), (std::vector{2, 6}));
  EXPECT_EQ(layout.to_string(), "dp=4,ep=2,pp=2");
}

// Every axis cuts the ranks into groups: each rank is in exactly one, and all members see the same group.
TEST(Layout, EveryAxisPartitionsTheRanks) {
  for (const int ranks : {1, 2, 6, 8, 12}) {
    for (const Layout& layout : all_layouts(ranks)) {
      EXPECT_EQ(layout.ranks(), ranks);
      for (const Axis axis : {Axis::kWorld, Axis::kData, Axis::kPipeline, Axis::kExpert, Axis::kExpertData}) {
        for (int rank = 0; rank < ranks; ++rank) {
          const std::vector<int> group = group_of(layout, axis, rank);
          EXPECT_EQ(std::set<int>(group.begin(), group.end()).count(rank), 1u);
          for (const int member : group) EXPECT_EQ(group_of(layout, axis, member), group) << layout.to_string();
        }
      }
      for (int rank = 0; rank < ranks; ++rank) {
        const Coordinates c = coordinates_of(layout, rank);
        EXPECT_EQ(rank_at(layout, c.stage, c.data), rank);
        EXPECT_EQ(c.expert_data * layout.expert + c.expert, c.data);
      }
    }
  }
}

TEST(Layout, CountsTheLayoutsOfEightRanks) {
  // pp 1: ep 1 2 4 8; pp 2: ep 1 2 4; pp 4: ep 1 2; pp 8: ep 1.
  EXPECT_EQ(all_layouts(8).size(), 10u);
}

TEST(Layout, ParsesItsShortForm) {
  const LayoutRequest request = parse_layout("pp=2,dp=4");
  EXPECT_EQ(request.data, 4);
  EXPECT_EQ(request.pipeline, 2);
  EXPECT_FALSE(request.expert.has_value());
  for (const char* bad : {"", "dp", "dp=", "dp=0", "dp=2x", "tp=2", "dp=2,dp=2", "dp=2,", "dp=-1"}) {
    EXPECT_THROW(parse_layout(bad), ConfigError) << bad;
  }
}

}  // namespace
}  // namespace cadre::parallel
