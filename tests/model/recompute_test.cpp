#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/model/tiny_model.h"

namespace cadre::model {
namespace {

using testing::StepResult;
using testing::TinyModel;

enum class Network { kExperts, kDense, kDrops };

NetworkSettings settings_of(Network network) {
  NetworkSettings settings = testing::tiny_settings();
  settings.model.num_layers = 4;
  settings.model.hidden_size = 48;
  settings.model.head_dim = 16;
  settings.model.ffn_hidden_size = 96;
  settings.model.init_std = 0.1;
  settings.moe.ffn_hidden_size = 40;
  if (network == Network::kDense) settings.moe = MoeSettings{};
  if (network == Network::kDrops) settings.moe.capacity_factor = 0.8;
  return settings;
}

RecomputeSettings selective(std::vector<RecomputePart> parts) {
  return {.mode = RecomputeMode::kSelective, .parts = std::move(parts)};
}

StepResult run(NetworkSettings settings, RecomputeSettings recompute, Dtype dtype, int threads = 1,
               kernels::Isa isa = kernels::best_isa()) {
  settings.recompute = std::move(recompute);
  TinyModel model(std::move(settings), dtype, {.batch = 2, .length = 48}, threads, isa);
  model.step();  // packs the weights
  return model.step();
}

void expect_same_bits(const StepResult& got, const StepResult& wanted) {
  EXPECT_EQ(got.cross_entropy, wanted.cross_entropy);
  EXPECT_EQ(got.balance, wanted.balance);
  EXPECT_EQ(got.z, wanted.z);
  EXPECT_TRUE(got.gradients == wanted.gradients);
}

class Recompute : public ::testing::TestWithParam<Network> {};

TEST_P(Recompute, ChangesNoBitAndLowersThePeak) {
  using enum RecomputePart;
  const NetworkSettings settings = settings_of(GetParam());
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    SCOPED_TRACE(name_of(dtype));
    const StepResult none = run(settings, {}, dtype);
    const StepResult parts = run(settings, selective({kNorms, kExpertActivations}), dtype);
    const StepResult all_parts = run(settings, selective({kNorms, kAttention, kExpertActivations}), dtype);
    const StepResult full = run(settings, {.mode = RecomputeMode::kFull}, dtype);
    for (const StepResult* recomputed : {&parts, &all_parts, &full}) expect_same_bits(*recomputed, none);
    EXPECT_LT(parts.peak, none.peak);
    EXPECT_LT(all_parts.peak, parts.peak);
    EXPECT_LT(full.peak, all_parts.peak);
    RecordProperty("bytes_" + std::string(name_of(dtype)),
                   std::to_string(none.peak) + " " + std::to_string(parts.peak) + " " + std::to_string(all_parts.peak) +
                       " " + std::to_string(full.peak));
  }
}

TEST_P(Recompute, ChangesNoBitInAnyInstructionSet) {
  const NetworkSettings settings = settings_of(GetParam());
  for (const kernels::Isa isa : {kernels::Isa::kPortable, kernels::Isa::kAvx2, kernels::Isa::kAvx512}) {
    if (!kernels::isa_available(isa)) continue;
    SCOPED_TRACE(kernels::name_of(isa));
    const StepResult none = run(settings, {}, Dtype::kF32, 1, isa);
    expect_same_bits(run(settings, selective({RecomputePart::kNorms}), Dtype::kF32, 1, isa), none);
    expect_same_bits(run(settings, {.mode = RecomputeMode::kFull}, Dtype::kF32, 1, isa), none);
  }
}

TEST_P(Recompute, ThreadsChangeNoBit) {
  const NetworkSettings settings = settings_of(GetParam());
  expect_same_bits(run(settings, {}, Dtype::kF32, 2), run(settings, {}, Dtype::kF32, 1));
}

TEST_P(Recompute, DeferringParameterGradientsChangesNoBit) {
  NetworkSettings settings = settings_of(GetParam());
  for (const RecomputeMode mode : {RecomputeMode::kNone, RecomputeMode::kSelective, RecomputeMode::kFull}) {
    settings.recompute.mode = mode;
    TinyModel model(settings, Dtype::kF32);
    const StepResult wanted = model.step();
    model.part = autograd::BackwardPart::kInputsOnly;
    expect_same_bits(model.step(), wanted);
  }
}

// Choices are held: replayed experts, and drops by position.
TEST_P(Recompute, F32IsCloseToF64) {
  NetworkSettings settings = settings_of(GetParam());
  settings.moe.drop_policy = kernels::DropPolicy::kByPosition;
  TinyModel model(settings, Dtype::kF64), single(settings, Dtype::kF32);
  const StepResult wanted = model.step(), got = single.step(&wanted.trace);
  EXPECT_NEAR(got.total(), wanted.total(), 2e-6 * wanted.total());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < wanted.gradients.size(); ++i) {
    largest = std::max(largest, std::abs(wanted.gradients[i]));
    difference = std::max(difference, std::abs(got.gradients[i] - wanted.gradients[i]));
  }
  EXPECT_LT(difference, 1e-5 * largest);
}

INSTANTIATE_TEST_SUITE_P(Networks, Recompute, ::testing::Values(Network::kExperts, Network::kDense, Network::kDrops),
                         [](const auto& test) {
                           return test.param == Network::kExperts ? "experts"
                                  : test.param == Network::kDense ? "dense"
                                                                  : "drops";
                         });

}  // namespace
}  // namespace cadre::model
