#include "optim/isolated_updates.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/rng.h"
#include "optim/optimizer.h"

namespace cadre::optim {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kExpertElements = 16;
constexpr double kTargets = 32;

// What an optimizer has of one segment.
struct Snapshot {
  std::vector<double> values;  // and moments
  int64_t steps = 0;
  bool operator==(const Snapshot&) const = default;
};

// A matrix and the three experts of layer 1, of two segments each.
class Isolated : public ::testing::TestWithParam<OptimizerKind> {
 protected:
  Isolated() {
    store_.declare("w", {3, 7}, 0.5, true);
    std::vector<autograd::Segment> segments;
    for (int expert = 0; expert < 3; ++expert) {
      const std::string name = "layers.1.moe.experts." + std::to_string(expert);
      segments.push_back({name + ".w1", {2, 4}, kExpertElements * expert, expert});
      segments.push_back({name + ".w3", {2, 4}, kExpertElements * expert + 8, expert});
    }
    store_.declare("experts", {3, 4, 4}, 0.5, true, std::move(segments));
    store_.materialise(context_, 4);
    first_values_.assign(store_.values().data<double>(), store_.values().data<double>() + store_.elements());
    settings_.kind = GetParam();
    settings_.lr = 0.125;
    settings_.clip_norm.reset();
    settings_.schedule.kind = ScheduleKind::kConstant;
    isolation_.experts = "layers.1.experts.*";
  }

  // On the values that the store was made with.
  Optimizer make(const std::optional<model::IsolationSettings>& isolation, const OptimizerShard& shard = {}) {
    std::copy(first_values_.begin(), first_values_.end(), store_.values().data<double>());
    std::optional<ExpertIsolation> logic;
    if (isolation) logic.emplace(*isolation, layout(), settings_.clip_norm);
    return Optimizer(context_, store_, settings_, shard, {}, std::move(logic));
  }
  static model::ExpertLayout layout() {
    model::NetworkSettings network;
    network.model.num_layers = 2;
    network.moe.num_experts = 3;
    network.moe.dense_layers = 1;
    return model::ExpertLayout(network);
  }

  std::vector<double> random_gradients(uint64_t stream) const {
    Rng rng(6, RngPurpose::kTest, stream);
    std::vector<double> gradients(static_cast<size_t>(store_.elements()));
    for (double& gradient : gradients) gradient = rng.normal();
    return gradients;
  }
  size_t first_of(int expert) const {
    return static_cast<size_t>(store_.find("experts")->offset + kExpertElements * expert);
  }
  // Puts gradients where the optimizer takes them, and steps.
  StepReport step(Optimizer& optimizer, int64_t step, const std::vector<double>& gradients,
                  std::vector<double> tokens = {1, 1, 1}, std::vector<double> faults = {0, 0, 0}) {
    for (const SegmentState& segment : optimizer.segments()) {
      const auto from = gradients.begin() + segment.offset + segment.kept.begin;
      std::copy(from, from + segment.kept.count(),
                optimizer.gradients().data<double>() + optimizer.gradient_offset(segment));
    }
    return optimizer.step(step, 100, {kTargets, {std::move(tokens)}, {std::move(faults)}});
  }
  Snapshot of(Optimizer& optimizer, const SegmentState& segment) const {
    Snapshot snapshot{{}, segment.steps};
    const auto add = [&](const Tensor& flat, int64_t begin) {
      const double* const from = flat.data<double>() + begin;
      snapshot.values.insert(snapshot.values.end(), from, from + segment.kept.count());
    };
    add(store_.values(), segment.offset + segment.kept.begin);
    for (const MomentTensor& moment : optimizer.moments()) add(moment.tensor, segment.state_offset);
    return snapshot;
  }
  // By segment: of the matrix, or an expert's two.
  std::vector<Snapshot> of_expert(Optimizer& optimizer, int expert) const {
    std::vector<Snapshot> snapshots;
    for (const SegmentState& segment : optimizer.segments()) {
      if (segment.expert == expert) snapshots.push_back(of(optimizer, segment));
    }
    return snapshots;
  }
  std::vector<double> kept(Optimizer& optimizer, int expert) const {
    std::vector<double> values;
    for (const MomentTensor& tensor : optimizer.state_tensors()) {
      if (std::string(tensor.name) != "accumulated_gradient") continue;
      for (const SegmentState& segment : optimizer.segments()) {
        if (segment.expert != expert) continue;
        const double* const from = tensor.tensor.data<double>() + segment.isolated_offset;
        values.insert(values.end(), from, from + segment.kept.count());
      }
    }
    return values;
  }
  double norm_of(const std::vector<double>& gradients, size_t begin, size_t count) const {
    double square = 0;
    for (size_t i = begin; i < begin + count; ++i) square += gradients[i] * gradients[i];
    return std::sqrt(square);
  }

  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  ThreadPool threads_{2};
  autograd::Context context_{{threads_, kernels::best_isa()}, *allocator_, Dtype::kF64};
  autograd::ParameterStore store_;
  std::vector<double> first_values_;
  OptimizerSettings settings_;
  model::IsolationSettings isolation_;
};

TEST_P(Isolated, AnExpertHasItsOwnNormAndTheGlobalOneIsWithoutIt) {
  settings_.clip_norm = 0.5;
  isolation_.experts = "layers.1.experts.0..1";
  Optimizer optimizer = make(isolation_);
  std::vector<double> gradients = random_gradients(1);
  for (size_t i = first_of(1); i < first_of(2); ++i) gradients[i] *= 1e-3;
  const StepReport report = step(optimizer, 1, gradients);
  const double rest = std::hypot(norm_of(gradients, 0, 21), norm_of(gradients, first_of(2), kExpertElements));
  EXPECT_NEAR(report.gradient_norm, rest, 1e-12);
  for (const SegmentState& segment : optimizer.segments()) {
    double wanted = 0.5 / rest;
    if (segment.expert == 0) wanted = 0.5 / norm_of(gradients, first_of(0), kExpertElements);
    if (segment.expert == 1) wanted = 1;
    EXPECT_NEAR(segment.clip_factor, wanted, 1e-12) << segment.name;
  }
}

TEST_P(Isolated, ABadGradientLeavesItsExpertAloneAndNobodyElse) {
  for (const double poison : {kNan, std::numeric_limits<double>::infinity()}) {
    Optimizer healthy = make(isolation_);
    step(healthy, 1, random_gradients(1));
    step(healthy, 2, random_gradients(2));
    std::vector<std::vector<Snapshot>> wanted;
    for (const int expert : {-1, 0, 2}) wanted.push_back(of_expert(healthy, expert));
    Optimizer optimizer = make(isolation_);
    step(optimizer, 1, random_gradients(1));
    const std::vector<Snapshot> before = of_expert(optimizer, 1);
    std::vector<double> gradients = random_gradients(2);
    gradients[first_of(1) + 11] = poison;
    const StepReport report = step(optimizer, 2, gradients);
    EXPECT_TRUE(report.finite);
    ASSERT_EQ(report.events.size(), 1u);
    EXPECT_EQ(report.events[0], (ExpertEvent{1, 1, ExpertEvent::Kind::kSkipped, 0, 0}));
    EXPECT_EQ(of_expert(optimizer, 1), before) << "nor is it decayed";
    for (const int expert : {-1, 0, 2}) {
      EXPECT_EQ(of_expert(optimizer, expert), wanted[expert < 0 ? 0 : static_cast<size_t>(expert / 2 + 1)]);
    }
  }
}

TEST_P(Isolated, OthersStillStopEverything) {
  isolation_.experts = "layers.1.experts.0..1";
  isolation_.accumulate_tokens = 10;
  Optimizer optimizer = make(isolation_);
  step(optimizer, 1, random_gradients(1), {4, 4, 4});
  for (const size_t at : {size_t{3}, first_of(2)}) {
    const std::vector<double> kept_before = kept(optimizer, 0);
    const std::vector<double> values(store_.values().data<double>(),
                                     store_.values().data<double>() + store_.elements());
    std::vector<double> gradients = random_gradients(2);
    gradients[at] = kNan;
    const StepReport report = step(optimizer, 2, gradients, {4, 4, 4});
    EXPECT_FALSE(report.finite);
    EXPECT_EQ(kept(optimizer, 0), kept_before);
    EXPECT_EQ(optimizer.isolated()->isolation().state(0).tokens_seen, 4);
    EXPECT_TRUE(std::equal(values.begin(), values.end(), store_.values().data<double>()));
  }
}

TEST_P(Isolated, KeptGradientsMakeOneUpdateOfTheirSum) {
  std::vector<double> sum = random_gradients(1);
  for (const uint64_t stream : {2, 3}) {
    const std::vector<double> next = random_gradients(stream);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] = next[i] + sum[i];
  }
  Optimizer one = make(isolation_);
  const std::vector<Snapshot> first = of_expert(one, 1);
  step(one, 3, sum);
  const std::vector<Snapshot> wanted = of_expert(one, 1);
  isolation_.accumulate_tokens = 10;
  Optimizer optimizer = make(isolation_);
  step(optimizer, 1, random_gradients(1), {4, 4, 20});
  EXPECT_EQ(of_expert(optimizer, 1), first);
  std::vector<double> bad = random_gradients(9);
  bad[first_of(1)] = kNan;
  step(optimizer, 1, bad, {4, 4, 20});
  step(optimizer, 2, random_gradients(2), {4, 4, 20});
  EXPECT_EQ(of_expert(optimizer, 1), first);
  EXPECT_EQ(of_expert(optimizer, 2)[0].steps, 3) << "which sees more";
  step(optimizer, 3, random_gradients(3), {4, 4, 20});
  EXPECT_EQ(of_expert(optimizer, 1), wanted);
  EXPECT_EQ(wanted[0].steps, 1);
  EXPECT_EQ(kept(optimizer, 1), std::vector<double>(kExpertElements, 0));
}

TEST_P(Isolated, AMeanOverItsOwnTokens) {
  isolation_.normalise_by_tokens = true;
  std::vector<double> gradients = random_gradients(1);
  Optimizer optimizer = make(isolation_);
  step(optimizer, 1, gradients, {8, 32, 0});
  const double factors[] = {kTargets / 8, 1, 1};
  for (const SegmentState& segment : optimizer.segments()) {
    EXPECT_EQ(segment.clip_factor, segment.expert < 0 ? 1 : factors[segment.expert]) << segment.name;
  }
  const std::vector<Snapshot> got = of_expert(optimizer, 0);
  for (size_t i = first_of(0); i < first_of(1); ++i) gradients[i] *= kTargets / 8;
  isolation_.normalise_by_tokens = false;
  Optimizer scaled = make(isolation_);
  step(scaled, 1, gradients);
  EXPECT_EQ(of_expert(scaled, 0), got);
}

TEST_P(Isolated, AnIdleExpertIsNotEvenDecayed) {
  for (const bool skip : {false, true}) {
    isolation_.skip_idle = skip;
    Optimizer optimizer = make(isolation_);
    step(optimizer, 1, random_gradients(1));
    const std::vector<Snapshot> idle = of_expert(optimizer, 1), busy = of_expert(optimizer, 2);
    std::vector<double> gradients = random_gradients(2);
    std::fill_n(gradients.begin() + static_cast<std::ptrdiff_t>(first_of(1)), kExpertElements, 0.0);
    step(optimizer, 2, gradients, {1, 0, 1});
    EXPECT_EQ(of_expert(optimizer, 1) == idle, skip);
    EXPECT_NE(of_expert(optimizer, 2), busy);
  }
}

TEST_P(Isolated, QuarantineGoesBackToTheLastSnapshot) {
  isolation_.quarantine = model::QuarantineSettings{2, 2};
  isolation_.accumulate_tokens = 2;
  Optimizer optimizer = make(isolation_);
  const std::vector<Snapshot> first = of_expert(optimizer, 1);
  const std::vector<double> busy{2, 2, 2}, half{1, 1, 1};
  std::vector<double> bad = random_gradients(9);
  bad[first_of(1) + 8] = kNan;
  step(optimizer, 1, random_gradients(1), busy);
  EXPECT_NE(of_expert(optimizer, 1), first);
  step(optimizer, 2, random_gradients(2), busy);
  const std::vector<Snapshot> second = of_expert(optimizer, 1);
  step(optimizer, 3, random_gradients(3), busy);
  step(optimizer, 4, random_gradients(4), half);
  const std::vector<Snapshot> fourth = of_expert(optimizer, 1);
  EXPECT_NE(fourth, second);
  step(optimizer, 5, random_gradients(5), busy);
  const std::vector<Snapshot> other = of_expert(optimizer, 0);
  const StepReport report = step(optimizer, 6, bad, half);
  ASSERT_EQ(report.events.size(), 1u);
  EXPECT_EQ(report.events[0], (ExpertEvent{1, 1, ExpertEvent::Kind::kQuarantined, 0, 8}));
  EXPECT_EQ(of_expert(optimizer, 1), fourth) << "which was healthy, though it made no update";
  EXPECT_EQ(fourth[0].steps, 3);
  EXPECT_EQ(of_expert(optimizer, 0), other) << "it keeps";
  EXPECT_EQ(kept(optimizer, 1), std::vector<double>(kExpertElements, 0));
  const std::vector<Snapshot> back = of_expert(optimizer, 1);
  for (const int64_t rest : {7, 8}) {
    step(optimizer, rest, random_gradients(static_cast<uint64_t>(rest)), busy);
    EXPECT_EQ(of_expert(optimizer, 1), back);
  }
  step(optimizer, 9, random_gradients(9), busy);
  EXPECT_EQ(of_expert(optimizer, 1)[0].steps, 4);
}

TEST_P(Isolated, TheFirstSnapshotIsTheBeginning) {
  isolation_.quarantine = model::QuarantineSettings{2, 100};
  Optimizer optimizer = make(isolation_);
  const std::vector<Snapshot> first = of_expert(optimizer, 1);
  for (uint64_t i = 1; i <= 3; ++i) step(optimizer, static_cast<int64_t>(i), random_gradients(i));
  EXPECT_NE(of_expert(optimizer, 1), first);
  const StepReport report = step(optimizer, 4, random_gradients(4), {1, 1, 1}, {0, 5, 0});
  ASSERT_EQ(report.events.size(), 1u);
  EXPECT_EQ(report.events[0], (ExpertEvent{1, 1, ExpertEvent::Kind::kQuarantined, 5, 6}));
  EXPECT_EQ(of_expert(optimizer, 1), first);
}

TEST_P(Isolated, ALossScaleIsTakenOffTheGradient) {
  Optimizer plain = make(isolation_);
  std::vector<double> gradients = random_gradients(1);
  step(plain, 1, gradients);
  const std::vector<Snapshot> wanted = of_expert(plain, 1);
  isolation_.loss_scale = model::LossScaleSettings{1024, 2, 1, 4096};
  Optimizer optimizer = make(isolation_);
  for (size_t i = first_of(0); i < first_of(2) + kExpertElements; ++i) gradients[i] *= 1024;
  step(optimizer, 1, gradients);
  EXPECT_EQ(of_expert(optimizer, 1), wanted);
  EXPECT_EQ(optimizer.isolated()->isolation().loss_scale(1, 1), 2048);
}

// What a rank keeps of an expert has the same bits, whatever it is.
TEST_P(Isolated, AShardDoesTheSameToWhatItKeeps) {
  isolation_.quarantine = model::QuarantineSettings{1, 2};
  isolation_.accumulate_tokens = 2;
  const std::vector<parallel::ElementRange> owned = {{0, 21}, {0, 8}, {0, 0}, {2, 5}, {0, 8}, {3, 8}, {0, 1}};
  const auto run = [&](Optimizer& optimizer, int64_t until) {
    for (int64_t i = 1; i <= until; ++i) {
      std::vector<double> gradients = random_gradients(static_cast<uint64_t>(i));
      if (i == 4) gradients[first_of(1) + 3] = kNan;
      step(optimizer, i, gradients, {1, 2, 3});
    }
  };
  for (const int64_t until : {3, 4, 5, 6}) {
    Optimizer whole = make(isolation_);
    run(whole, until);
    std::vector<Snapshot> wanted;
    for (size_t i = 0; i < owned.size(); ++i) {
      SegmentState part = whole.segments()[i];
      part.state_offset += owned[i].begin;
      part.kept = owned[i];
      wanted.push_back(of(whole, part));
    }
    for (const int zero : {1, 2}) {
      Optimizer shard = make(isolation_, {zero, owned, nullptr});
      run(shard, until);
      for (size_t i = 0; i < owned.size(); ++i) {
        EXPECT_EQ(of(shard, shard.segments()[i]), wanted[i]) << shard.segments()[i].name << ", step " << until;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Isolated, ::testing::Values(OptimizerKind::kAdamW, OptimizerKind::kSgd),
                         [](const auto& test) { return std::string(config::enum_name(test.param)); });

}  // namespace
}  // namespace cadre::optim
