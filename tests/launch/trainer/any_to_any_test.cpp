// A run saved on any layout goes on on any other: first the same bits, then the same step as on one rank.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "launch/checkpoint/inspect.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/writer.h"
#include "launch/trainer/local_rank.h"
#include "launch/trainer/stages.h"
#include "launch/verify/verify_case.h"
#include "parallel/comm/thread.h"
#include "tests/core/io/temporary_directory.h"
#include "tests/launch/verify/random_case.h"

namespace cadre::launch {
namespace {

using namespace testing;
namespace fs = std::filesystem;

constexpr int64_t kSteps = 2;  // before it is saved

LocalRankOptions options_for(const VerifyCase& verify_case, const Variant& variant) {
  ParallelSettings parallel;
  parallel.pipeline_parallel = variant.layout.pipeline;
  parallel.stages_per_rank = variant.stages_per_rank;
  LocalRankOptions options;
  options.layout = variant.layout;
  options.dtype = Dtype::kF64;
  options.training.network = verify_case.network;
  options.training.shard.layers_per_stage =
      decide_stages(parallel, counted_costs(verify_case.network, verify_case.seq_length));
  options.training.shard.dispatch = verify_case.dispatch;
  options.training.shard.zero = verify_case.zero;
  options.training.optimizer.lr = 0.01;
  options.training.seed = verify_case.seed;
  options.training.trainer.total_steps = 10;
  options.training.trainer.schedule.kind = variant.schedule;
  options.training.trainer.schedule.chunks = variant.stages_per_rank;
  options.training.trainer.step.micro_batches = verify_case.micro_batches / variant.layout.data;
  options.training.trainer.step.global_target_tokens = static_cast<double>(verify_case.global_tokens());
  options.training.trainer.step.reset_at_documents = verify_case.reset_at_documents;
  return options;
}

struct Run {
  fs::path from{};  // a checkpoint; empty: from the start
  int64_t steps = 0;
  fs::path save{};  // the folder of checkpoints to write one to, after those steps; empty: none
  fs::path save_before{};
};

void save(LocalRank& rank, const fs::path& root) {
  CheckpointHeader header;
  header.step = rank.state().step;
  header.state = rank.state().scalars();
  CheckpointWriter({root, 1 << 20, {}}, rank.mesh().world(), rank.context().allocator)
      .save(header, rank.state().entries_to_save());
}

// The metrics of the last step.
StepMetrics carry_out(const VerifyCase& verify_case, const Variant& variant, const Run& run) {
  StepMetrics result;
  parallel::ThreadWorld(variant.layout.ranks()).run([&](parallel::Communicator& world) {
    LocalRank rank(world, options_for(verify_case, variant));
    if (!run.from.empty()) {
      CheckpointReader reader(run.from);
      rank.state().restore(reader);
    }
    if (!run.save_before.empty()) save(rank, run.save_before);
    StepMetrics metrics;
    for (int64_t i = 0; i < run.steps; ++i) {
      const int64_t each = verify_case.micro_batches / variant.layout.data;
      int64_t next = rank.state().step * verify_case.micro_batches + rank.mesh().here().data * each;
      metrics = rank.trainer().step([&] { return verify_batch(verify_case, next++); }, {}).metrics;
    }
    if (!run.save.empty()) save(rank, run.save);
    if (world.rank() == 0) result = metrics;
  });
  return result;
}

void expect_near(double got, double wanted, const char* what) {
  EXPECT_NEAR(got, wanted, 1e-11 * std::max(1.0, std::abs(wanted))) << what;
}

TEST(AnyToAny, ARunGoesOnOnAnotherLayout) {
  const int count = draws(15);
  for (int draw = 0; draw < count; ++draw) {
    Rng rng(2, RngPurpose::kTest, static_cast<uint64_t>(draw));
    Settings settings = random_settings(rng);
    // Equal tokens at equal places have equal scores but for rounding, which then decides which of them a full expert
    // drops; and after an update rounding differs between layouts.
    settings.moe.drop_policy = kernels::DropPolicy::kByPosition;
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
