#include "launch/plan/estimate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

#include "autograd/ops/expert_choice.h"
#include "launch/trainer/expert_balance.h"
#include "launch/verify/run_case.h"
#include "parallel/comm/thread.h"
#include "tests/launch/plan/plan_fixture.h"

namespace cadre::launch {
namespace {

using parallel::Layout;
using parallel::ScheduleKind;

// By place: as many as there are for every token, or, where experts choose, tokens one after the other for each.
std::vector<int32_t> even_ids(const model::LayerExperts& layer, int64_t tokens) {
  const int64_t experts = layer.experts();
  std::vector<int32_t> ids(static_cast<size_t>(tokens * layer.places), -1);
  if (layer.places == layer.top_k) {
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(static_cast<int64_t>(i) % experts);
    return ids;
  }
  const int64_t each = autograd::ExpertChoice::share(tokens, layer.top_k, experts);
  for (int64_t i = 0; i < each * experts; ++i) {
    const int64_t token = i % tokens, expert = i / each;
    ids[static_cast<size_t>(token * experts + expert)] = static_cast<int32_t>(expert);
  }
  return ids;
}

// What a plan assumes: in every micro-batch every expert is chosen as often as another.
RecordedRouting even_routing(const VerifyCase& verify_case) {
  const model::ExpertLayout layout(verify_case.network);
  std::vector<std::vector<int32_t>> layers;
  for (const int64_t layer : layout.moe_layers()) {
    layers.push_back(even_ids(layout.layer(layer), verify_case.micro_batch_size * verify_case.seq_length));
  }
  return RecordedRouting(static_cast<size_t>(verify_case.micro_batches), layers);
}

// A step of real ranks against the estimate of it.
class Comparison {
 public:
  Comparison(const Settings& settings, const Variant& variant, int64_t micro_batches)
      : settings_(settings), variant_(variant) {
    settings_.parallel.schedule = variant.schedule;
    settings_.parallel.stages_per_rank = variant.stages_per_rank;
    const int64_t micro = *settings_.batch.micro_batch_size.value;
    settings_.batch.global_batch_size = micro_batches * micro * variant.layout.data;
    const VerifyCase verify_case = make_verify_case(settings_, micro_batches * variant.layout.data, false);
    const RecordedRouting routing = even_routing(verify_case);
    RunCase run;
    run.variant = variant;
    run.dtype = Dtype::kF32;
    run.replay = &routing;
    run.zero = static_cast<int>(settings_.parallel.zero);
    if (settings_.parallel.placement.kind == PlacementKind::kTable) {
      run.placements = first_placements(settings_.parallel.placement, model::ExpertLayout(verify_case.network),
                                        variant.layout.expert);
    }
    measured_.resize(static_cast<size_t>(variant.layout.ranks()));
    std::mutex mutex;
    parallel::ThreadWorld(variant.layout.ranks()).run([&](parallel::Communicator& world) {
      CaseResult mine = run_case_on(world, verify_case, run);
      const std::lock_guard lock(mutex);
      measured_[static_cast<size_t>(world.rank())] = std::move(mine);
    });
    settings_.parallel.bucket_mib = 1e-6;  // a bucket for each parameter, as there
    Estimator estimator(settings_, machine_.device, machine_.exec);
    estimate_ = estimator.estimate({variant.layout, micro});
  }

  void expect_memory_within(double tolerance) const {
    for (int stage = 0; stage < variant_.layout.pipeline; ++stage) {
      double most = 0;
      for (int data = 0; data < variant_.layout.data; ++data) {
        const auto rank = static_cast<size_t>(parallel::rank_at(variant_.layout, stage, data));
        most = std::max(most, static_cast<double>(measured_[rank].memory.peak));
      }
      const double predicted = estimate_.memory[static_cast<size_t>(stage)].total();
      EXPECT_NEAR(predicted / most, 1, tolerance) << variant_.to_string() << ", pipeline rank " << stage << ": "
                                                  << predicted << " bytes predicted, " << most << " measured";
    }
  }

  // By axis and collective, over the ranks of a stage.
  void expect_traffic_within(double tolerance) const {
    for (int stage = 0; stage < variant_.layout.pipeline; ++stage) {
      std::map<parallel::Traffic::key_type, double> sent;
      for (int data = 0; data < variant_.layout.data; ++data) {
        const auto rank = static_cast<size_t>(parallel::rank_at(variant_.layout, stage, data));
        for (const auto& [key, count] : measured_[rank].traffic) sent[key] += count.bytes / variant_.layout.data;
      }
      const parallel::Traffic& predicted = estimate_.traffic[static_cast<size_t>(stage)];
      EXPECT_EQ(predicted.size(), sent.size()) << variant_.to_string() << ", pipeline rank " << stage;
      for (const auto& [key, bytes] : sent) {
        const auto found = predicted.find(key);
        ASSERT_NE(found, predicted.end()) << variant_.to_string() << ": " << key.first << " " << key.second;
        EXPECT_NEAR(found->second.bytes / bytes, 1, tolerance)
            << variant_.to_string() << ", pipeline rank " << stage << ": " << key.first << " " << key.second;
      }
    }
  }

 private:
  Settings settings_;
  Variant variant_;
  testing::Machine machine_;
  std::vector<CaseResult> measured_;  // by rank
  Estimate estimate_;
};

constexpr double kTolerance = 0.1;

// Weights that the second micro-batch packs are there when the third one runs, or the next step.
void compare(const Settings& settings, const std::vector<Variant>& variants, int64_t micro_batches = 4) {
  for (const Variant& variant : variants) {
    const Comparison comparison(settings, variant, micro_batches);
    comparison.expect_memory_within(kTolerance);
    comparison.expect_traffic_within(kTolerance);
  }
}

TEST(Estimate, MemoryAndTrafficAreThoseOfRealDataAndExpertRanks) {
  compare(testing::plan_settings(), {{Layout{1, 1, 1}},
                                     {Layout{2, 1, 1}},
                                     {Layout{2, 1, 2}},
                                     {Layout{4, 1, 2}},
                                     {Layout{4, 1, 4}},
                                     {Layout{8, 1, 8}}});
}

TEST(Estimate, MemoryAndTrafficAreThoseOfRealPipelines) {
  compare(testing::plan_settings(), {{Layout{1, 2, 1}, ScheduleKind::kGPipe},
                                     {Layout{2, 2, 2}, ScheduleKind::k1F1B},
                                     {Layout{1, 4, 1}, ScheduleKind::k1F1B},
                                     {Layout{2, 2, 1}, ScheduleKind::kZeroBubble},
                                     {Layout{1, 2, 1}, ScheduleKind::kInterleaved, 2}});
}

TEST(Estimate, MemoryAndTrafficAreThoseOfShardedState) {
  Settings settings = testing::plan_settings();
  settings.model.hidden_size = 256;
  settings.model.ffn_hidden_size = 512;
  settings.model.vocab_size = 512;  // a whole number of pieces for every holder of the embedding
  for (const int64_t zero : {1, 2}) {
    settings.parallel.zero = zero;
    compare(settings, {{Layout{2, 1, 1}}, {Layout{4, 1, 2}}, {Layout{2, 2, 1}}});
  }
}

TEST(Estimate, MemoryIsThatOfOtherModelsToo) {
  Settings settings = testing::plan_settings();
  settings.recompute.mode = model::RecomputeMode::kFull;
  compare(settings, {{Layout{2, 1, 2}}, {Layout{2, 2, 1}}});
  settings = testing::plan_settings();
  settings.recompute.mode = model::RecomputeMode::kSelective;
  settings.model.tie_embeddings = false;
  settings.moe.shared_experts = 1;
  compare(settings, {{Layout{2, 1, 2}}}, 1);
  settings = testing::plan_settings();
  settings.moe.num_experts = 0;
  settings.moe.dense_layers = 0;
  settings.data.reset_at_documents = true;
  compare(settings, {{Layout{2, 2, 1}}});
  settings = testing::plan_settings();
  settings.parallel.max_dispatch_tokens = 64;
  settings.parallel.overlap_chunks = 2;
  compare(settings, {{Layout{2, 1, 2}}});
  settings.parallel.dispatcher = parallel::DispatcherKind::kAllGather;
  compare(settings, {{Layout{2, 1, 2}}});
}

TEST(Estimate, MemoryAndTrafficAreThoseOfExpertsThatChooseAndOfThoseThatComputeNothing) {
  Settings settings = testing::plan_settings();
  settings.moe.router.choice = kernels::ChoiceKind::kExpert;
  settings.moe.router.allow_future_tokens = true;
  compare(settings, {{Layout{1, 1, 1}}, {Layout{4, 1, 2}}, {Layout{2, 2, 1}}});
  settings = testing::plan_settings();
  model::ExpertGroupSettings full, constant, zero;
  full.name = "full";
  full.count = 8.0;
  constant.name = "constant";
  constant.count = 4.0;
  constant.computation = model::ExpertComputation::kConstant;
  zero.name = "zero";
  zero.count = 4.0;
  zero.computation = model::ExpertComputation::kZero;
  settings.moe.num_experts = 0;
  settings.moe.groups = {full, constant, zero};
  compare(settings, {{Layout{1, 1, 1}}, {Layout{4, 1, 2}}, {Layout{2, 2, 1}}});
}

TEST(Estimate, MemoryHasTheBuffersOfReproducibleSums) {
  Settings settings = testing::plan_settings();
  settings.parallel.reproducible = true;
  compare(settings, {{Layout{1, 1, 1}}, {Layout{4, 1, 2}}, {Layout{1, 2, 1}}});
  settings.model.tie_embeddings = false;
  settings.parallel.zero = 1;
  compare(settings, {{Layout{2, 1, 2}}}, 2);
}

TEST(Estimate, MemoryAndTrafficAreThoseOfReplicas) {
  Settings settings = testing::plan_settings();
  settings.parallel.placement.kind = PlacementKind::kTable;
  for (int64_t expert = 0; expert < 8; ++expert) settings.parallel.placement.holders.push_back({expert / 4});
  settings.parallel.placement.holders[0] = {0, 1};
  settings.parallel.placement.holders[7] = {0, 1};
  for (const int64_t zero : {0, 1}) {
    settings.parallel.zero = zero;
    compare(settings, {{Layout{2, 1, 2}}, {Layout{4, 1, 2}}});
  }
}

TEST(Estimate, MemoryAndTrafficHaveWhatIsolatedExpertsNeed) {
  Settings settings = testing::plan_settings();
  settings.moe.ffn_hidden_size = 512;  // so that it matters
  settings.moe.isolation.emplace();
  settings.moe.isolation->accumulate_tokens = 100;
  settings.moe.isolation->quarantine.emplace();
  for (const char* experts : {"layers.*.experts.*", "layers.*.experts.0..3"}) {
    settings.moe.isolation->experts = experts;
    for (const int64_t zero : {0, 1}) {
      settings.parallel.zero = zero;
      compare(settings, {{Layout{1, 1, 1}}, {Layout{2, 1, 1}}});
    }
  }
  settings.moe.isolation->experts = "layers.*.experts.*";
  compare(settings, {{Layout{4, 1, 2}}});
  settings.parallel.zero = 0;
  compare(settings, {{Layout{1, 2, 1}}});
}

TEST(Estimate, MemoryIsThatOfExpertsWithAnotherOptimizer) {
  Settings settings = testing::plan_settings();
  model::ExpertRuleSettings rule;
  rule.experts = "layers.*.experts.*";
  rule.optimizer = optim::OptimizerKind::kSgd;
  settings.moe.rules = {rule};
  for (const int64_t zero : {0, 1}) {
    settings.parallel.zero = zero;
    compare(settings, {{Layout{1, 1, 1}}, {Layout{2, 1, 1}}});
  }
  settings.model.hidden_size = 256;  // or what guards hold decides
  settings.moe.isolation.emplace();
  settings.moe.isolation->quarantine.emplace();
  compare(settings, {{Layout{1, 1, 1}}});
}

TEST(Estimate, ShardedStateIsSharedByTheRanksThatHoldTheSame) {
  testing::Machine machine;
  const auto memory_with = [&](int64_t zero) {
    Settings settings = testing::plan_settings();
    settings.model.hidden_size = 512;
    settings.parallel.zero = zero;
    return Estimator(settings, machine.device, machine.exec).estimate({{8, 1, 2}, 2}).memory[0];
  };
  const MemoryEstimate whole = memory_with(0), moments = memory_with(1), gradients = memory_with(2);
  EXPECT_LT(moments.moments, 0.35 * whole.moments) << "dense parameters on 8 ranks, experts on 4";
  EXPECT_EQ(moments.gradients, whole.gradients);
  EXPECT_LT(gradients.gradients, 0.35 * whole.gradients);
  EXPECT_EQ(gradients.weights, whole.weights);
}

TEST(Estimate, ManyMicroBatchesTakeTheirTime) {
  Settings settings = testing::plan_settings();
  testing::Machine machine;
  settings.batch.global_batch_size = 32;
  const TimeEstimate few = Estimator(settings, machine.device, machine.exec).estimate({{1, 2, 1}, 2}).time;
  settings.batch.global_batch_size = 3200;
  const TimeEstimate many = Estimator(settings, machine.device, machine.exec).estimate({{1, 2, 1}, 2}).time;
  EXPECT_GT(many.pipeline, 90 * few.pipeline);
  EXPECT_LT(many.pipeline, 100 * few.pipeline) << "the pipeline fills once";
  EXPECT_LT(many.bubble, few.bubble);
}

TEST(Estimate, ChunksHideExchangesWhereTheDeviceCanDoBoth) {
  Settings settings = testing::plan_settings();
  settings.model.hidden_size = 2048;  // or it is starting ops and messages that takes the time
  settings.moe.ffn_hidden_size = 2048;
  settings.data.seq_length = 4096;
  testing::Machine machine;
  const auto pipeline_with = [&](int64_t chunks, const Device& device) {
    settings.parallel.overlap_chunks = chunks;
    return Estimator(settings, device, machine.exec).estimate({{8, 1, 8}, 2}).time.pipeline;
  };
  const Device gpu = device_named("h100", Dtype::kF32);
  EXPECT_LT(pipeline_with(4, gpu), pipeline_with(1, gpu));
  EXPECT_GE(pipeline_with(4, machine.device), pipeline_with(1, machine.device)) << "nothing runs beside a core";
}

TEST(Estimate, DevicesAreNamed) {
  EXPECT_GT(device_named("b200", Dtype::kF32).memory_bytes, device_named("h100", Dtype::kF32).memory_bytes);
  try {
    device_named("h20", Dtype::kF32);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace cadre::launch
