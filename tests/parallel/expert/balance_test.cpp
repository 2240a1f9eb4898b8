#include "parallel/expert/balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/rng.h"

namespace cadre::parallel {
namespace {

// Half of all rows go to expert 0 of 16.
ExpertLoads half_to_one() {
  ExpertLoads loads(16, 50.0 / 15);
  loads[0] = 50;
  return loads;
}

TEST(Balance, LoadsOfRanksFollowWhoServes) {
  const Placement placement({{0}, {0, 1}, {1}}, 2);
  EXPECT_EQ(rank_loads(placement, {4, 6, 2}), (std::vector<double>{7, 5}));
  EXPECT_DOUBLE_EQ(imbalance(placement, {4, 6, 2}), 7.0 / 6);
  EXPECT_EQ(imbalance(placement, {0, 0, 0}), 1);
}

TEST(Balance, PackingEvensOutWhatAnEvenCutDoesNot) {
  const ExpertLoads loads{9, 8, 1, 2};
  EXPECT_DOUBLE_EQ(imbalance(Placement::even(4, 2), loads), 1.7);
  EXPECT_DOUBLE_EQ(imbalance(balanced_placement(loads, 2), loads), 1.0);
}

TEST(Balance, AHotExpertNeedsACopy) {
  const ExpertLoads loads = half_to_one();
  EXPECT_GT(imbalance(Placement::even(16, 2), loads), 1.45);
  // Eight experts on each rank: the hot one and the seven with it.
  EXPECT_NEAR(imbalance(balanced_placement(loads, 2), loads), (50 + 7 * 50.0 / 15) / 50, 1e-12);
  const Placement copied = balanced_placement(loads, 2, 1);
  EXPECT_EQ(copied.holders(0), (std::vector<int>{0, 1}));
  EXPECT_LT(imbalance(copied, loads), 1.04);
  EXPECT_LT(imbalance(balanced_placement(loads, 4, 3), loads), 1.1);
}

TEST(Balance, ManyCopiesMakeEveryRankAHolder) {
  const Placement placement = balanced_placement({5, 5}, 3, 100);
  for (int64_t expert = 0; expert < 2; ++expert) EXPECT_EQ(placement.holders(expert).size(), 3u);
}

TEST(Balance, MoreRanksThanExpertsLeaveNoRankWithout) {
  const Placement placement = balanced_placement({6, 1, 1}, 5);
  for (int rank = 0; rank < 5; ++rank) EXPECT_EQ(placement.held_by(rank).size(), 1u) << rank;
  EXPECT_EQ(placement.holders(0).size(), 3u);
}

// Whatever the loads: every expert is somewhere, room is shared evenly, and no rank bears more than the even share and
// one copy.
TEST(Balance, RandomLoads) {
  Rng rng(1, RngPurpose::kTest);
  for (int draw = 0; draw < 300; ++draw) {
    const int ranks = static_cast<int>(1 + rng.below(8));
    ExpertLoads loads(1 + rng.below(40));
    for (double& load : loads) load = rng.uniform() * (rng.below(4) == 0 ? 20 : 1);
    const int replicas = static_cast<int>(rng.below(5));
    const Placement placement = balanced_placement(loads, ranks, replicas);
    size_t copies = 0, most = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      copies += placement.held_by(rank).size();
      most = std::max(most, placement.held_by(rank).size());
    }
    EXPECT_GE(copies, loads.size());
    EXPECT_LE(copies, std::max(loads.size() + static_cast<size_t>(replicas), static_cast<size_t>(ranks)));
    EXPECT_LE(most, (copies + static_cast<size_t>(ranks) - 1) / static_cast<size_t>(ranks) + 1);
    EXPECT_EQ(placement, balanced_placement(loads, ranks, replicas));
  }
}

}  // namespace
}  // namespace cadre::parallel
