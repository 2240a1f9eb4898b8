// A run saved on any layout goes on on any other: first the same bits, then the same step as on one rank.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "launch/checkpoint/inspect.h"
#include "launch/checkpoint/reader.h"
#include "tests/core/io/temporary_directory.h"
#include "tests/launch/trainer/small_run.h"
#include "tests/launch/verify/random_case.h"

namespace cadre::launch {
namespace {

using namespace testing;
namespace fs = std::filesystem;

constexpr int64_t kSteps = 2;  // before it is saved

void expect_near(double got, double wanted, const char* what) {
  EXPECT_NEAR(got, wanted, 1e-11 * std::max(1.0, std::abs(wanted))) << what;
}

TEST(AnyToAny, ARunGoesOnOnAnotherLayout) {
  const int count = draws(15);
  for (int draw = 0; draw < count; ++draw) {
    Rng rng(2, RngPurpose::kTest, static_cast<uint64_t>(draw));
    Settings settings = random_settings(rng);
    // Equal tokens at equal places have equal scores but for rounding, which then decides which of them a full expert
    // drops, or takes; and after an update rounding differs between layouts.
    settings.moe.drop_policy = kernels::DropPolicy::kByPosition;
    if (settings.moe.router.choice == kernels::ChoiceKind::kExpert) {
      settings.moe.router.choice = kernels::ChoiceKind::kTopK;
    }
    const Variant from = random_variant(rng, settings), to = random_variant(rng, settings);
    SCOPED_TRACE("draw " + std::to_string(draw) + ": " + from.to_string() + " -> " + to.to_string());
    const int64_t micro_batches = from.layout.data * to.layout.data * static_cast<int64_t>(1 + rng.below(2));
    const VerifyCase verify_case = make_verify_case(settings, micro_batches, false);
    const cadre::testing::TemporaryDirectory directory;
    const fs::path saved = directory.path() / "saved", copy = directory.path() / "copy";
    const fs::path step = "step-00000002";
    carry_out(verify_case, from, {.steps = kSteps, .save = saved});
    VerifyCase other_stage = verify_case;
    other_stage.zero = static_cast<int>(rng.below(3));
    const StepMetrics next = carry_out(other_stage, to, {.from = saved / step, .steps = 1, .save_before = copy});
    const Inspection difference = checkpoint_diff(saved / step, copy / step);
    EXPECT_TRUE(difference.ok) << difference.text;
    const StepMetrics wanted = carry_out(verify_case, {}, {.steps = kSteps + 1});
    EXPECT_EQ(next.step, wanted.step);
    expect_near(next.loss, wanted.loss, "loss");
    expect_near(next.balance_loss, wanted.balance_loss, "balance loss");
    expect_near(next.z_loss, wanted.z_loss, "z loss");
    expect_near(next.gradient_norm, wanted.gradient_norm, "gradient norm");
  }
}

}  // namespace
}  // namespace cadre::launch
