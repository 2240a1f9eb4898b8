#include "launch/verify/verify.h"

#include <gtest/gtest.h>

#include <set>

#include "core/config/config.h"
#include "core/error.h"
#include "launch/verify/differences.h"
#include "tests/launch/verify/random_case.h"

namespace cadre::launch {
namespace {

using namespace testing;

VerifyReport run(const Settings& settings, std::vector<Variant> variants, Fault fault = Fault::kNone,
                 std::vector<Dtype> dtypes = {Dtype::kF64, Dtype::kF32}) {
  return verify(settings, {std::move(variants), std::move(dtypes), false, fault, false});
}

std::string explain(const Verdict& v) {
  return v.variant.to_string() + " " + std::string(name_of(v.dtype)) + " loss " + std::to_string(v.comparison.loss) +
         " gradient " + std::to_string(v.comparison.gradient) + " of " + v.comparison.worst;
}

TEST(Verify, EveryLayoutOfUpToSixRanksPasses) {
  Settings settings = small_settings();
  settings.model.num_layers = 4;
  const std::vector<Variant> variants = all_variants(1, 6, settings.moe.num_experts, settings.model.num_layers, false);
  const VerifyReport report = run(settings, variants);
  EXPECT_LE(report.directional_error, kDirectionalTolerance);
  EXPECT_EQ(report.verdicts.size(), 2 * variants.size());
  for (const Verdict& verdict : report.verdicts) EXPECT_TRUE(verdict.passes) << explain(verdict);
  EXPECT_TRUE(report.passes());
}

// What each fault breaks first, and along which axis.
struct Expected {
  Fault fault;
  Variant variant;
  const char* segment;
  const char* axis;
};

TEST(Verify, FindsEveryFaultByFarMoreThanTheTolerance) {
  const Expected cases[] = {
      {Fault::kSkippedReduction, {{2, 1, 1}}, "embedding.weight", "data"},
      {Fault::kSkippedReduction, {{4, 1, 2}}, "embedding.weight", "data"},
      {Fault::kSkippedExperts, {{4, 1, 2}}, "layers.0.moe.experts.0.w1", "data"},
      {Fault::kSkippedExperts, {{6, 1, 6}}, "layers.0.moe.experts.0.w1", "data"},
      {Fault::kDoubledReduction, {{3, 1, 1}}, "", "data"},
      {Fault::kUnsynchronisedRouter, {{2, 1, 2}}, "layers.1.moe.router.weight", "data"},
      {Fault::kDroppedRouterLoss, {{4, 1, 4}}, "", "data"},
      {Fault::kDroppedStageLoss, {{1, 2, 1}}, "", "pipeline"},
      {Fault::kDroppedStageLoss, {{2, 2, 2}}, "", "pipeline"},
      {Fault::kUnsummedEmbedding, {{1, 2, 1}}, "embedding.weight", "pipeline"},
      {Fault::kUnsummedEmbedding, {{2, 2, 1}}, "embedding.weight", "pipeline"},
  };
  for (size_t i = 0; i < 3 * std::size(cases); ++i) {
    const Expected& expected = cases[i / 3];
    Settings settings = small_settings();
    settings.parallel.zero = static_cast<int64_t>(i % 3);
    const VerifyReport report = run(settings, {expected.variant}, expected.fault);
    EXPECT_FALSE(report.passes());
    EXPECT_LE(report.directional_error, kDirectionalTolerance) << "the reference has no fault";
    for (const Verdict& verdict : report.verdicts) {
      const double tolerance = verdict.dtype == Dtype::kF64 ? kFp64Tolerance : kFp32Tolerance;
      EXPECT_FALSE(verdict.passes);
      EXPECT_GE(std::max(verdict.comparison.gradient, verdict.comparison.loss), 10 * tolerance) << explain(verdict);
      EXPECT_EQ(verdict.axis, expected.axis) << explain(verdict);
      if (*expected.segment != '\0') {
        EXPECT_EQ(verdict.comparison.first, expected.segment);
      }
    }
  }
}

TEST(Verify, AFaultThatALayoutCannotHaveIsNotFound) {
  EXPECT_TRUE(run(small_settings(), {{{1, 1, 1}}}, Fault::kSkippedReduction).passes());
  EXPECT_TRUE(run(small_settings(), {{{2, 1, 2}}}, Fault::kSkippedExperts).passes()) << "no expert has a replica";
}

TEST(Verify, FiniteDifferencesTellAWrongReference) {
  const VerifyCase verify_case = make_verify_case(small_settings(), 2, false);
  CaseResult reference = run_case(verify_case, {});
  EXPECT_LE(directional_error(verify_case, reference, 3), kDirectionalTolerance);
  for (double& g : reference.gradients.at("layers.1.moe.experts.0.w2")) g *= 1.01;
  EXPECT_GT(directional_error(verify_case, reference, 3), 10 * kDirectionalTolerance);
}

TEST(Verify, ComparisonNamesTheSegmentAndItsError) {
  const VerifyCase verify_case = make_verify_case(small_settings(), 2, false);
  const CaseResult result = run_case(verify_case, {});
  CaseResult reference = result;
  for (double& g : reference.gradients.at("layers.1.moe.experts.0.w2")) g *= 1.01;
  std::vector<std::string> order;
  for (const auto& [name, gradient] : reference.gradients) order.push_back(name);
  const Comparison comparison = compare(result, reference, order, kFp64Tolerance, 0);
  EXPECT_EQ(comparison.first, "layers.1.moe.experts.0.w2");
  EXPECT_NEAR(comparison.gradient, 0.01 / 1.01, 1e-6);
}

TEST(Verify, AVariantIsReadAsItIsWritten) {
  for (const Variant& variant : all_variants(1, 8, 8, 16, true)) {
    EXPECT_EQ(parse_variant(variant.to_string()), variant) << variant.to_string();
  }
  EXPECT_EQ(parse_variant("pp=2,schedule=interleaved").stages(), 4);
  for (const char* wrong : {"pp=2,schedule=fast", "pp=2,stages_per_rank=2",
                            "pp=2,schedule=interleaved,stages_per_rank=0", "dp=3,ep=2", "depth=2"}) {
    EXPECT_THROW(parse_variant(wrong), ConfigError) << wrong;
  }
}

TEST(Verify, ShrinkingKeepsTheStructure) {
  Settings settings = small_settings();
  settings.model.num_layers = 12;
  settings.model.hidden_size = 1024;
  settings.model.num_heads = 16;
  settings.model.num_kv_heads = 4;
  settings.moe.dense_layers = 1;
  settings.moe.num_experts = 7;
  const VerifyCase small = make_verify_case(settings, 3, true);
  EXPECT_EQ(small.network.model.num_layers, 3);
  EXPECT_EQ(small.network.model.num_heads / small.network.model.kv_heads(), 4);
  EXPECT_EQ(small.network.moe.num_experts, 7);
  EXPECT_LE(small.network.model.hidden_size, 32);
  EXPECT_EQ(small.micro_batches, 3);
  EXPECT_EQ(make_verify_case(settings, 3, true, 8).network.model.num_layers, 8);
}

// Every expert on a random rank, every other one perhaps on another, too.
parallel::Placement random_placement(Rng& rng, int64_t experts, int ranks) {
  std::vector<std::vector<int>> holders;
  for (int64_t expert = 0; expert < experts; ++expert) {
    std::set<int> chosen;
    for (int64_t i = 0; i <= expert % 2; ++i) chosen.insert(static_cast<int>(rng.below(static_cast<uint64_t>(ranks))));
    holders.emplace_back(chosen.begin(), chosen.end());
  }
  return {std::move(holders), ranks};
}

TEST(Verify, PlacementsMayDifferByLayerWithReplicasAndRanksWithoutExperts) {
  const VerifyCase verify_case = make_verify_case(small_settings(), 8, false);
  const CaseResult reference = run_case(verify_case, {});
  std::vector<std::string> order;
  for (const auto& [name, gradient] : reference.gradients) order.push_back(name);
  const parallel::Layout layouts[] = {{2, 1, 2}, {4, 1, 2}, {4, 1, 4}, {8, 1, 4}, {8, 1, 8}, {4, 2, 4}};
  for (uint64_t draw = 0; draw < 3 * std::size(layouts); ++draw) {
    Rng rng(2, RngPurpose::kTest, draw);
    const parallel::Layout& layout = layouts[draw / 3];
    RunCase run{.variant = {layout}, .zero = static_cast<int>(draw % 3)};
    for (int layer = 0; layer < 2; ++layer) run.placements.push_back(random_placement(rng, 5, layout.expert));
    const Comparison comparison = compare(run_case(verify_case, run), reference, order, kFp64Tolerance, 0);
    EXPECT_TRUE(comparison.passes(kFp64Tolerance))
        << "draw " << draw << " " << layout.to_string() << " " << comparison.worst << " " << comparison.gradient;
  }
}

// CADRE_TEST_DRAWS draws more.
TEST(Verify, RandomModelsOnRandomLayoutsEqualOneRank) {
  const int count = draws(30);
  for (int draw = 0; draw < count; ++draw) {
    Rng rng(1, RngPurpose::kTest, static_cast<uint64_t>(draw));
    const Settings settings = random_settings(rng);
    const Variant variant = random_variant(rng, settings);
    const VerifyReport report = run(settings, {variant}, Fault::kNone, {Dtype::kF64});
    EXPECT_LE(report.directional_error, kDirectionalTolerance) << "draw " << draw << "\n"
                                                               << config::print_resolved(settings);
    EXPECT_TRUE(report.verdicts[0].passes) << "draw " << draw << ": " << explain(report.verdicts[0]) << "\n"
                                           << config::print_resolved(settings);
  }
}

}  // namespace
}  // namespace cadre::launch
