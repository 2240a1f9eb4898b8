#include "parallel/pipeline/stages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "core/error.h"
#include "core/rng.h"

namespace cadre::parallel {
namespace {

using Counts = std::vector<int64_t>;

std::vector<LayerCost> equal_layers(size_t layers) { return std::vector<LayerCost>(layers, LayerCost{0.1, 0.2}); }

TEST(PipelineStages, EqualLayersAreSharedEvenly) {
  EXPECT_EQ(balanced_stages(equal_layers(8), 4), (Counts{2, 2, 2, 2}));
  EXPECT_EQ(balanced_stages(equal_layers(9), 4), (Counts{2, 2, 2, 3}));
  EXPECT_EQ(balanced_stages(equal_layers(7), 1), (Counts{7}));
  EXPECT_EQ(balanced_stages(equal_layers(3), 3), (Counts{1, 1, 1}));
}

TEST(PipelineStages, EmbeddingAndHeadCount) {
  EXPECT_EQ(balanced_stages(equal_layers(8), 3, {}, {0.2, 0.4}), (Counts{3, 3, 2}));
  EXPECT_EQ(balanced_stages(equal_layers(4), 2, {0.2, 0.4}, {}), (Counts{1, 3}));
  EXPECT_EQ(balanced_stages(equal_layers(4), 3, {}, {10, 10}, EmptyStages::kAllow), (Counts{2, 2, 0}));
}

// The least maximum over all cuts, by trying them all.
double best_of_all(const std::vector<LayerCost>& layers, size_t stages, LayerCost first, LayerCost last, int64_t least,
                   Counts& counts, int64_t left) {
  if (counts.size() + 1 == stages) {
    if (left < least) return 1e300;
    counts.push_back(left);
    const double cost = dearest_stage(counts, layers, first, last);
    counts.pop_back();
    return cost;
  }
  double best = 1e300;
  for (int64_t count = least; count <= left; ++count) {
    counts.push_back(count);
    best = std::min(best, best_of_all(layers, stages, first, last, least, counts, left - count));
    counts.pop_back();
  }
  return best;
}

TEST(PipelineStages, NoCutIsBetter) {
  Rng rng(3, RngPurpose::kTest);
  const auto random_cost = [&] { return LayerCost{rng.uniform(), 2 * rng.uniform()}; };
  for (int draw = 0; draw < 300; ++draw) {
    const size_t stages = 1 + rng.below(4), layers = stages + rng.below(7);
    const EmptyStages empty = rng.below(2) == 0 ? EmptyStages::kRefuse : EmptyStages::kAllow;
    std::vector<LayerCost> costs(layers);
    std::generate(costs.begin(), costs.end(), random_cost);
    const LayerCost first = random_cost(), last = random_cost();
    const Counts counts = balanced_stages(costs, static_cast<int>(stages), first, last, empty);
    EXPECT_NO_THROW(check_stages(counts, static_cast<int64_t>(layers), static_cast<int>(stages), empty));
    Counts scratch;
    const double best = best_of_all(costs, stages, first, last, empty == EmptyStages::kRefuse ? 1 : 0, scratch,
                                    static_cast<int64_t>(layers));
    EXPECT_NEAR(dearest_stage(counts, costs, first, last), best, 1e-9);
  }
}

std::string refusal(const Counts& counts, int64_t layers, int stages) {
  try {
    check_stages(counts, layers, stages);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(PipelineStages, ExplicitCountsAreChecked) {
  EXPECT_EQ(refusal({3, 5}, 8, 2), "");
  EXPECT_EQ(refusal({3, 4}, 8, 2),
            "layers_per_stage: the sum is 7, but the model has 8 layers; wanted for instance [4, 4]");
  EXPECT_EQ(refusal({8, 0}, 8, 2), "layers_per_stage: stage 1 has 0 layers; wanted for instance [4, 4]");
  EXPECT_EQ(refusal({9, -1}, 8, 2), "layers_per_stage: stage 0 has 9 layers; wanted for instance [4, 4]");
  EXPECT_EQ(refusal({2, 2, 4}, 8, 2), "layers_per_stage: 3 numbers for 2 stages; wanted for instance [4, 4]");
  EXPECT_NO_THROW(check_stages({8, 0}, 8, 2, EmptyStages::kAllow));
}

TEST(PipelineStages, RefusesImpossibleCuts) {
  EXPECT_THROW(balanced_stages(equal_layers(2), 3), ConfigError);
  EXPECT_THROW(check_stages({1, 1, 1}, 2, 3), ConfigError);
  EXPECT_THROW(balanced_stages(equal_layers(2), 0), ConfigError);
  EXPECT_THROW(balanced_stages({{-1, 0}}, 1), ConfigError);
  EXPECT_THROW(balanced_stages({{1, 0}}, 1, {0, 1.0 / 0.0}), ConfigError);
  EXPECT_EQ(balanced_stages(equal_layers(2), 3, {}, {}, EmptyStages::kAllow).size(), 3u);
}

}  // namespace
}  // namespace cadre::parallel
