#include "optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/rng.h"

namespace cadre::optim {
namespace {

// A matrix, a norm that is not decayed, and two stacked experts.
class OptimizerTest : public ::testing::TestWithParam<Dtype> {
 protected:
  void SetUp() override {
    context_.dtype = GetParam();
    store_.declare("w", {3, 7}, 0.5, true);
    store_.declare("norm", {5}, -1, false);
    store_.declare("experts", {2, 2, 3}, 0.5, true, {{"e0", {2, 3}, 0, 0}, {"e1", {2, 3}, 6, 1}});
    store_.materialise(context_, 4);
  }

  static double get(const Tensor& t, int64_t i) {
    return t.dtype() == Dtype::kF64 ? t.data<double>()[i] : t.data<float>()[i];
  }
  static void set(const Tensor& t, int64_t i, double value) {
    t.dtype() == Dtype::kF64 ? void(t.data<double>()[i] = value) : void(t.data<float>()[i] = static_cast<float>(value));
  }
  static std::vector<double> all(const Tensor& t) {
    std::vector<double> values;
    for (int64_t i = 0; i < t.elements(); ++i) values.push_back(get(t, i));
    return values;
  }

  void random_gradients(uint64_t stream, double deviation = 1) {
    Rng rng(6, RngPurpose::kTest, stream);
    for (const auto& parameter : store_.parameters()) {
      for (int64_t i = 0; i < parameter->shape.elements(); ++i) set(parameter->gradient, i, deviation * rng.normal());
    }
  }
  double tolerance() const { return GetParam() == Dtype::kF64 ? 1e-14 : 2e-6; }

  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  ThreadPool threads_{2};
  autograd::Context context_{{threads_, kernels::best_isa()}, *allocator_};
  autograd::ParameterStore store_;
};

// One segment, by the book.
struct AdamW {
  std::vector<double> w, m, v;
  int64_t steps = 0;

  void step(const OptimizerSettings& s, double lr, double decay, const std::vector<double>& g) {
    ++steps;
    for (size_t i = 0; i < w.size(); ++i) {
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * g[i];
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * g[i] * g[i];
      const double m_hat = m[i] / (1 - std::pow(s.beta1, double(steps)));
      const double v_hat = v[i] / (1 - std::pow(s.beta2, double(steps)));
      w[i] -= lr * (m_hat / (std::sqrt(v_hat) + s.eps) + decay * w[i]);
    }
  }
};

struct Sgd {
  std::vector<double> w, buffer;

  void step(const OptimizerSettings& s, double lr, double decay, const std::vector<double>& g) {
    for (size_t i = 0; i < w.size(); ++i) {
      buffer[i] = s.momentum * buffer[i] + g[i];
      w[i] -= lr * (s.nesterov ? g[i] + s.momentum * buffer[i] : buffer[i]) + lr * decay * w[i];
    }
  }
};

std::vector<double> part(const std::vector<double>& flat, const SegmentState& segment) {
  return {flat.begin() + segment.offset, flat.begin() + segment.offset + segment.count()};
}

void expect_near(const std::vector<double>& got, const std::vector<double>& wanted, double tolerance) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], wanted[i], tolerance * std::max(1.0, std::abs(wanted[i]))) << i;
  }
}

// ZeRO: the same bits where this rank owns, nothing elsewhere; gradients of their own with stage 2.
TEST_P(OptimizerTest, AShardUpdatesWhatItOwns) {
  OptimizerSettings settings;
  settings.clip_norm.reset();
  const std::vector<parallel::ElementRange> owned = {{0, store_.find("w")->shape.elements()}, {0, 0}, {2, 5}, {0, 6}};
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
    for (const int zero : {1, 2}) {
      settings.kind = kind;
      const std::vector<double> before = all(store_.values());
      Optimizer whole(context_, store_, settings);
      for (int64_t step = 1; step <= 3; ++step) {
        random_gradients(static_cast<uint64_t>(step));
        whole.step(step, 3);
      }
      const std::vector<double> wanted = all(store_.values());
      for (size_t i = 0; i < before.size(); ++i) set(store_.values(), static_cast<int64_t>(i), before[i]);
      Optimizer shard(context_, store_, settings, {zero, owned, nullptr});
      for (int64_t step = 1; step <= 3; ++step) {
        random_gradients(static_cast<uint64_t>(step));
        for (const SegmentState& segment : shard.segments()) {
          const std::vector<double> gradients = all(store_.gradients());
          for (int64_t i = 0; i < segment.kept.count(); ++i) {
            const double value = gradients[static_cast<size_t>(segment.offset + segment.kept.begin + i)];
            set(shard.gradients(), shard.gradient_offset(segment) + i, value);
          }
        }
        shard.step(step, 3);
      }
      const std::vector<double> after = all(store_.values());
      for (size_t i = 0; i < owned.size(); ++i) {
        const SegmentState& segment = shard.segments()[i];
        EXPECT_EQ(segment.kept, owned[i]);
        for (int64_t e = 0; e < segment.count(); ++e) {
          const auto at = static_cast<size_t>(segment.offset + e);
          EXPECT_EQ(after[at], e >= owned[i].begin && e < owned[i].end ? wanted[at] : before[at]) << segment.name;
        }
      }
      for (size_t i = 0; i < before.size(); ++i) set(store_.values(), static_cast<int64_t>(i), before[i]);
    }
  }
}

TEST_P(OptimizerTest, SegmentsNameExpertsAndExcludeNormsFromDecay) {
  OptimizerSettings settings;
  settings.weight_decay = 0.25;
  const Optimizer optimizer(context_, store_, settings);
  ASSERT_EQ(optimizer.segments().size(), 4u);
  const char* names[] = {"w", "norm", "e0", "e1"};
  const double decays[] = {0.25, 0, 0.25, 0.25};
  const int experts[] = {-1, -1, 0, 1};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(optimizer.segments()[i].name, names[i]);
    EXPECT_EQ(optimizer.segments()[i].weight_decay, decays[i]);
    EXPECT_EQ(optimizer.segments()[i].expert, experts[i]);
  }
  EXPECT_EQ(optimizer.segments()[3].offset, store_.find("experts")->offset + 6);
}

TEST_P(OptimizerTest, AdamWFollowsTheBookWithStepCountsOfEachSegment) {
  OptimizerSettings settings;
  settings.lr = 0.03;
  settings.clip_norm.reset();
  settings.schedule.kind = ScheduleKind::kLinear;
  Optimizer optimizer(context_, store_, settings);
  optimizer.segments()[2].steps = 9;  // an expert resumed from elsewhere
  optimizer.segments()[3].rule.lr_scale = 0.5;
  std::vector<AdamW> book;
  for (const SegmentState& segment : optimizer.segments()) {
    const std::vector<double> zeros(static_cast<size_t>(segment.count()), 0);
    book.push_back({part(all(store_.values()), segment), zeros, zeros, segment.steps});
  }
  for (int64_t step = 1; step <= 4; ++step) {
    random_gradients(static_cast<uint64_t>(step));
    const double lr = optimizer.learning_rate(step, 8);
    EXPECT_DOUBLE_EQ(lr, 0.03 * (0.1 + 0.9 * (1 - double(step) / 8)));
    EXPECT_TRUE(optimizer.step(step, 8).finite);
    for (size_t i = 0; i < book.size(); ++i) {
      const SegmentState& segment = optimizer.segments()[i];
      book[i].step(settings, lr * segment.rule.lr_scale, segment.weight_decay, part(all(store_.gradients()), segment));
      SCOPED_TRACE(segment.name);
      EXPECT_EQ(segment.steps, book[i].steps);
      expect_near(part(all(store_.values()), segment), book[i].w, tolerance());
      expect_near(part(all(optimizer.moments()[0].tensor), segment), book[i].m, tolerance());
      expect_near(part(all(optimizer.moments()[1].tensor), segment), book[i].v, tolerance());
    }
  }
}

TEST_P(OptimizerTest, SgdFollowsTheBookPlainAndNesterov) {
  for (const bool nesterov : {false, true}) {
    OptimizerSettings settings;
    settings.kind = OptimizerKind::kSgd;
    settings.lr = 0.03;
    settings.nesterov = nesterov;
    settings.clip_norm.reset();
    settings.schedule.kind = ScheduleKind::kConstant;
    Optimizer optimizer(context_, store_, settings);
    ASSERT_EQ(optimizer.moments().size(), 1u);
    EXPECT_EQ(optimizer.moments()[0].name, "momentum");
    std::vector<Sgd> book;
    for (const SegmentState& segment : optimizer.segments()) {
      book.push_back({part(all(store_.values()), segment), std::vector<double>(size_t(segment.count()), 0)});
    }
    for (int64_t step = 1; step <= 3; ++step) {
      random_gradients(static_cast<uint64_t>(step));
      optimizer.step(step, 3);
      for (size_t i = 0; i < book.size(); ++i) {
        const SegmentState& segment = optimizer.segments()[i];
        book[i].step(settings, 0.03, segment.weight_decay, part(all(store_.gradients()), segment));
        expect_near(part(all(store_.values()), segment), book[i].w, tolerance());
      }
    }
  }
}

double norm_of(const std::vector<double>& values) {
  double squares = 0;
  for (const double x : values) squares += x * x;
  return std::sqrt(squares);
}

TEST_P(OptimizerTest, ClippingScalesTheGradientByTheGlobalNorm) {
  OptimizerSettings settings;
  settings.kind = OptimizerKind::kSgd;
  settings.momentum = 0;
  settings.weight_decay = 0;
  settings.lr = 1;
  settings.schedule.kind = ScheduleKind::kConstant;
  settings.clip_norm = 0.5;
  Optimizer optimizer(context_, store_, settings);
  random_gradients(1, 3);
  const std::vector<double> before = all(store_.values()), gradients = all(store_.gradients());
  const double norm = norm_of(gradients);
  const StepReport report = optimizer.step(1, 10);
  EXPECT_NEAR(report.gradient_norm, norm, 1e-6 * norm);
  EXPECT_NEAR(report.clip_factor, 0.5 / norm, 1e-6);
  double squares = 0;
  for (const SegmentState& segment : optimizer.segments()) {
    EXPECT_NEAR(segment.gradient_norm, norm_of(part(gradients, segment)), 1e-6 * norm) << segment.name;
    squares += segment.gradient_norm * segment.gradient_norm;
  }
  EXPECT_NEAR(std::sqrt(squares), norm, 1e-6 * norm);
  const std::vector<double> after = all(store_.values());
  for (size_t i = 0; i < after.size(); ++i) EXPECT_NEAR(after[i], before[i] - gradients[i] * 0.5 / norm, tolerance());
}

TEST_P(OptimizerTest, SmallGradientsAreNotClipped) {
  OptimizerSettings settings;
  settings.clip_norm = 1e3;
  Optimizer optimizer(context_, store_, settings);
  random_gradients(1);
  EXPECT_EQ(optimizer.step(1, 10).clip_factor, 1);
}

TEST_P(OptimizerTest, NonFiniteGradientsLeaveEverythingUntouchedAndNameTheSegment) {
  for (const auto kind : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
    OptimizerSettings settings;
    settings.kind = kind;
    Optimizer optimizer(context_, store_, settings);
    random_gradients(1);
    optimizer.step(1, 10);
    const std::vector<double> values = all(store_.values()), moment = all(optimizer.moments()[0].tensor);
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity()}) {
      random_gradients(2);
      set(store_.gradients(), store_.find("experts")->offset + 7, bad);
      const StepReport report = optimizer.step(2, 10);
      EXPECT_FALSE(report.finite);
      EXPECT_EQ(report.first_non_finite, "e1");
      EXPECT_EQ(all(store_.values()), values);
      EXPECT_EQ(all(optimizer.moments()[0].tensor), moment);
      for (const SegmentState& segment : optimizer.segments()) EXPECT_EQ(segment.steps, 1);
    }
    random_gradients(2);
    EXPECT_TRUE(optimizer.step(2, 10).finite);
    EXPECT_NE(all(store_.values()), values);
  }
}

TEST_P(OptimizerTest, AStepMakesPackedWeightsStale) {
  Optimizer optimizer(context_, store_, {});
  autograd::Parameter& w = *store_.find("w");
  const auto packed = [&] {
    const TensorView storage = w.operand(context_, kernels::Operand::kTransposed, w.value).values;
    return storage.dtype == Dtype::kF64 ? storage.as<double>()[0] : storage.as<float>()[0];
  };
  EXPECT_EQ(packed(), get(w.value, 0));
  random_gradients(1);
  optimizer.step(1, 10);
  EXPECT_EQ(packed(), get(w.value, 0));
}

TEST_P(OptimizerTest, ZeroGradientsOfUnusedExpertsStillDecayThem) {
  OptimizerSettings settings;
  settings.lr = 0.5;
  settings.weight_decay = 0.5;
  settings.schedule.kind = ScheduleKind::kConstant;
  Optimizer optimizer(context_, store_, settings);
  const std::vector<double> before = all(store_.values());
  store_.zero_untouched_gradients();
  EXPECT_EQ(optimizer.step(1, 10).gradient_norm, 0);
  const std::vector<double> after = all(store_.values());
  for (const SegmentState& segment : optimizer.segments()) {
    const double factor = segment.name == "norm" ? 1 : 0.75;
    std::vector<double> wanted = part(before, segment);
    for (double& x : wanted) x *= factor;
    expect_near(part(after, segment), wanted, tolerance());
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, OptimizerTest, ::testing::Values(Dtype::kF64, Dtype::kF32),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace cadre::optim
