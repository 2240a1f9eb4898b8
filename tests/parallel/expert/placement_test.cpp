#include "parallel/expert/placement.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace cadre::parallel {
namespace {

TEST(Placement, EvenCutsAnyNumberOfExperts) {
  const Placement placement = Placement::even(5, 3);
  EXPECT_EQ(placement.held_by(0), (std::vector<int64_t>{0}));
  EXPECT_EQ(placement.held_by(1), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(placement.held_by(2), (std::vector<int64_t>{3, 4}));
  EXPECT_FALSE(placement.has_replicas());
  EXPECT_EQ(placement.server(4, 0), 2);
}

TEST(Placement, MoreRanksThanExpertsReplicate) {
  const Placement placement = Placement::even(2, 5);
  EXPECT_EQ(placement.holders(0), (std::vector{0, 1, 2}));
  EXPECT_EQ(placement.holders(1), (std::vector{3, 4}));
  EXPECT_TRUE(placement.has_replicas());
  EXPECT_EQ(placement.server(0, 1), 1);  // at home
  EXPECT_EQ(placement.server(0, 3), 0);  // in turn
  EXPECT_EQ(placement.server(0, 4), 1);
}

// Every expert has a holder, and whoever serves it holds it.
TEST(Placement, EvenIsCompleteForAllSizes) {
  for (int64_t experts = 1; experts <= 9; ++experts) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      const Placement placement = Placement::even(experts, ranks);
      for (int rank = 0; rank < ranks; ++rank) EXPECT_FALSE(experts >= ranks && placement.held_by(rank).empty());
      for (int64_t expert = 0; expert < experts; ++expert) {
        for (int source = 0; source < ranks; ++source) {
          const int server = placement.server(expert, source);
          const std::vector<int64_t>& held = placement.held_by(server);
          EXPECT_NE(std::find(held.begin(), held.end(), expert), held.end());
        }
      }
    }
  }
}

TEST(Placement, RefusesHolesAndDoubles) {
  EXPECT_THROW(Placement({{0}, {}}, 2), ConfigError);
  EXPECT_THROW(Placement({{0, 0}}, 2), ConfigError);
  EXPECT_THROW(Placement({{1, 0}}, 2), ConfigError);
  EXPECT_THROW(Placement({{2}}, 2), ConfigError);
}

}  // namespace
}  // namespace cadre::parallel
