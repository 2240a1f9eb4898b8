#include "kernels/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"

namespace cadre::kernels {
namespace {

const std::vector<Isa> kIsas = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512};

class OptimizerTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_available(GetParam())) GTEST_SKIP() << "no " << name_of(GetParam()) << " on this machine";
  }

  std::shared_ptr<Allocator> memory = make_host_allocator();

  Tensor random(Dtype dtype, int64_t count, uint64_t stream, double low = -0.5) {
    Tensor tensor = Tensor::empty(*memory, dtype, {count});
    Rng rng(7, RngPurpose::kTest, stream);
    for (int64_t i = 0; i < count; ++i) {
      const float value = static_cast<float>(rng.uniform() + low);
      if (dtype == Dtype::kF64) {
        tensor.data<double>()[i] = value;
      } else {
        tensor.data<float>()[i] = value;
      }
    }
    return tensor;
  }

  static void expect_near(const Tensor& f32, const Tensor& f64, const char* what) {
    for (int64_t i = 0; i < f32.elements(); ++i) {
      ASSERT_NEAR(f32.data<float>()[i], f64.data<double>()[i], 1e-6) << what << ' ' << i;
    }
  }
};

constexpr int64_t kElements = 30011;

TEST_P(OptimizerTest, AdamWMatchesReferenceAndLeavesTheRestAlone) {
  const std::vector<AdamWSegment> segments = {
      {.place = StatePlace::everywhere(3, 1), .lr = 1e-2},
      {.place = StatePlace::everywhere(4, 0), .lr = 1e-2},
      {.place = StatePlace::everywhere(10, 1013),
       .lr = 3e-3,
       .beta2 = 0.999,
       .weight_decay = 0.1,
       .step = 7,
       .gradient_scale = 0.25},
      {.place = StatePlace::everywhere(2000, 27001), .lr = 1e-3, .beta1 = 0.8, .weight_decay = 0.01, .step = 1000},
  };
  struct State {
    Tensor weights, gradients, m, v;
  };
  const auto fresh = [&](Dtype dtype) {
    return State{random(dtype, kElements, 1), random(dtype, kElements, 2), random(dtype, kElements, 3),
                 random(dtype, kElements, 4, 0.0)};
  };
  ThreadPool one(1);
  const State wanted = fresh(Dtype::kF64);
  adamw({one, GetParam()}, segments, wanted.weights, wanted.gradients, wanted.m, wanted.v);
  const State before = fresh(Dtype::kF32);
  State first;
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    const State got = fresh(Dtype::kF32);
    adamw({pool, GetParam()}, segments, got.weights, got.gradients, got.m, got.v);
    expect_near(got.weights, wanted.weights, "weight");
    expect_near(got.m, wanted.m, "m");
    expect_near(got.v, wanted.v, "v");
    for (const int64_t outside : {0, 2, 4, 9, 1023, 1999, 29001, 30010}) {
      EXPECT_EQ(got.weights.data<float>()[outside], before.weights.data<float>()[outside]) << outside;
      EXPECT_EQ(got.v.data<float>()[outside], before.v.data<float>()[outside]) << outside;
    }
    if (!first.weights) first = got;
    EXPECT_EQ(0, std::memcmp(first.weights.raw(), got.weights.raw(), got.weights.bytes())) << threads << " threads";
  }
}

// ZeRO keeps moments, and maybe gradients, of some of the weights only.
TEST_P(OptimizerTest, MomentsAndGradientsMayLieElsewhere) {
  ThreadPool pool(2);
  const Exec exec{pool, GetParam()};
  constexpr int64_t kBegin = 4097, kCount = 9001;
  const auto part_of = [](const Tensor& whole) { return whole.flat_slice(kBegin, Shape{kCount}); };
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    const Tensor weights = random(dtype, kElements, 1), whole = random(dtype, kElements, 1);
    const Tensor gradients = random(dtype, kElements, 2), m = random(dtype, kElements, 3);
    const Tensor v = random(dtype, kElements, 4, 0.0);
    const Tensor part_m = random(dtype, kCount, 9), part_v = random(dtype, kCount, 9),
                 part_g = random(dtype, kCount, 9);
    std::memcpy(part_m.raw(), part_of(m).raw(), part_m.bytes());
    std::memcpy(part_v.raw(), part_of(v).raw(), part_v.bytes());
    std::memcpy(part_g.raw(), part_of(gradients).raw(), part_g.bytes());
    AdamWSegment adam{.place = StatePlace::everywhere(kBegin, kCount), .lr = 1e-2, .weight_decay = 0.1, .step = 3};
    SgdSegment plain{.place = adam.place, .lr = 1e-2, .momentum = 0.9};
    adamw(exec, {&adam, 1}, whole, gradients, m, v);
    sgd(exec, {&plain, 1}, whole, gradients, m);
    adam.place = plain.place = {kBegin, 0, 0, kCount};
    adamw(exec, {&adam, 1}, weights, part_g, part_m, part_v);
    sgd(exec, {&plain, 1}, weights, part_g, part_m);
    EXPECT_EQ(std::memcmp(weights.raw(), whole.raw(), whole.bytes()), 0);
    EXPECT_EQ(std::memcmp(part_m.raw(), part_of(m).raw(), part_m.bytes()), 0);
    EXPECT_EQ(std::memcmp(part_v.raw(), part_of(v).raw(), part_v.bytes()), 0);
  }
}

TEST_P(OptimizerTest, ChangesAreMeasuredInRunsAndChangeNoBit) {
  const int64_t counts[] = {1, 0, 4096, 9001};
  std::vector<AdamWSegment> adams;
  std::vector<SgdSegment> plains;
  int64_t offset = 3;
  for (const int64_t count : counts) {
    adams.push_back({.place = StatePlace::everywhere(offset, count), .lr = 1e-2, .weight_decay = 0.1, .step = 3});
    plains.push_back({.place = StatePlace::everywhere(offset, count), .lr = 1e-2, .momentum = 0.9});
    offset += count + 5;
  }
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for (const bool adam : {true, false}) {
      const Tensor before = random(dtype, kElements, 1), plain = random(dtype, kElements, 1);
      const Tensor gradients = random(dtype, kElements, 2);
      const auto run = [&](int threads, const Tensor& weights, std::span<double> changes) {
        ThreadPool pool(threads);
        const Exec exec{pool, GetParam()};
        const Tensor m = random(dtype, kElements, 3), v = random(dtype, kElements, 4, 0.0);
        adam ? adamw(exec, adams, weights, gradients, m, v, changes)
             : sgd(exec, plains, weights, gradients, m, changes);
      };
      run(2, plain, {});
      std::vector<double> first;
      for (const int threads : {1, 2, 3}) {
        const Tensor weights = random(dtype, kElements, 1);
        std::vector<double> changes(1 + 0 + 1 + 3, -1);
        run(threads, weights, changes);
        EXPECT_EQ(std::memcmp(weights.raw(), plain.raw(), plain.bytes()), 0);
        if (first.empty()) first = changes;
        EXPECT_EQ(changes, first) << threads << " threads";
        size_t next = 0;
        for (const AdamWSegment& segment : adams) {
          for (int64_t at = 0; at < segment.place.count; at += kChangeRun) {
            double wanted = 0;
            for (int64_t i = at; i < std::min(segment.place.count, at + kChangeRun); ++i) {
              const int64_t element = segment.place.weights + i;
              const double change = dtype == Dtype::kF64
                                        ? weights.data<double>()[element] - before.data<double>()[element]
                                        : weights.data<float>()[element] - before.data<float>()[element];
              wanted += change * change;
            }
            EXPECT_NEAR(changes[next++], wanted, 1e-12 * wanted);
          }
        }
      }
      std::vector<double> wrong(4);
      EXPECT_THROW(run(1, plain, wrong), InternalError);
    }
  }
}

// ZeRO shards and experts cut the flat storage anywhere: the cut must not show.
TEST_P(OptimizerTest, CuttingASegmentChangesNoBit) {
  ThreadPool pool(2);
  const AdamWSegment whole{.place = StatePlace::everywhere(0, kElements), .lr = 1e-3, .weight_decay = 0.1, .step = 3};
  AdamWSegment head = whole, tail = whole;
  head.place = StatePlace::everywhere(0, 12347);
  tail.place = StatePlace::everywhere(12347, kElements - 12347);
  const Tensor gradients = random(Dtype::kF32, kElements, 2);
  std::vector<Tensor> results;
  for (const std::vector<AdamWSegment>& segments : {std::vector{whole}, std::vector{head, tail}}) {
    const Tensor weights = random(Dtype::kF32, kElements, 1);
    adamw({pool, GetParam()}, segments, weights, gradients, random(Dtype::kF32, kElements, 3),
          random(Dtype::kF32, kElements, 4, 0.0));
    results.push_back(weights);
  }
  EXPECT_EQ(0, std::memcmp(results[0].raw(), results[1].raw(), results[0].bytes()));
}

TEST_P(OptimizerTest, FirstAdamWStepMovesByTheLearningRate) {
  ThreadPool pool(1);
  const Tensor weights = Tensor::zeros(*memory, Dtype::kF32, {5});
  const Tensor gradients = Tensor::zeros(*memory, Dtype::kF32, {5});
  for (int i = 0; i < 5; ++i) gradients.data<float>()[i] = i % 2 == 0 ? 0.25f : -8.0f;
  const AdamWSegment segment{.place = StatePlace::everywhere(0, 5), .lr = 0.125, .beta2 = 0.999};
  adamw({pool, GetParam()}, {&segment, 1}, weights, gradients, Tensor::zeros(*memory, Dtype::kF32, {5}),
        Tensor::zeros(*memory, Dtype::kF32, {5}));
  for (int i = 0; i < 5; ++i) EXPECT_NEAR(weights.data<float>()[i], i % 2 == 0 ? -0.125 : 0.125, 1e-6);
}

TEST_P(OptimizerTest, SgdMatchesReference) {
  const std::vector<SgdSegment> segments = {
      {.place = StatePlace::everywhere(1, 77), .lr = 0.1},
      {.place = StatePlace::everywhere(100, 9001),
       .lr = 0.01,
       .momentum = 0.9,
       .weight_decay = 0.1,
       .gradient_scale = 0.5},
      {.place = StatePlace::everywhere(9200, 20000), .lr = 0.01, .momentum = 0.9, .nesterov = true},
  };
  ThreadPool one(1);
  const Tensor weights = random(Dtype::kF64, kElements, 1);
  const Tensor buffer = random(Dtype::kF64, kElements, 3);
  sgd({one, GetParam()}, segments, weights, random(Dtype::kF64, kElements, 2), buffer);
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    const Tensor got = random(Dtype::kF32, kElements, 1);
    const Tensor got_buffer = random(Dtype::kF32, kElements, 3);
    sgd({pool, GetParam()}, segments, got, random(Dtype::kF32, kElements, 2), got_buffer);
    expect_near(got, weights, "weight");
    expect_near(got_buffer, buffer, "buffer");
  }
}

TEST_P(OptimizerTest, SquaredNormsAreTheSameBitsForAnyThreadsAndInstructionSet) {
  const std::vector<FlatRange> ranges = {{0, 1}, {5, 0}, {7, 4096}, {7, 4097}, {100, 29911}};
  const Tensor x = random(Dtype::kF32, kElements, 1);
  ThreadPool one(1);
  std::vector<double> wanted(ranges.size());
  squared_norms({one, Isa::kPortable}, ranges, x, wanted);
  for (size_t i = 0; i < ranges.size(); ++i) {
    double sum = 0;
    for (int64_t j = 0; j < ranges[i].count; ++j) sum += std::pow(double{x.data<float>()[ranges[i].offset + j]}, 2);
    EXPECT_NEAR(wanted[i], sum, 1e-12 * sum) << i;
  }
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    std::vector<double> got(ranges.size());
    squared_norms({pool, GetParam()}, ranges, x, got);
    EXPECT_EQ(got, wanted) << threads << " threads";
  }
}

TEST_P(OptimizerTest, ANonFiniteGradientShowsOnlyInItsRange) {
  ThreadPool pool(2);
  const Tensor x = random(Dtype::kF32, kElements, 1);
  const std::vector<FlatRange> ranges = {{0, 10000}, {10000, 10000}, {20000, 10011}};
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    x.data<float>()[kElements - 1] = bad;
    std::vector<double> norms(3);
    squared_norms({pool, GetParam()}, ranges, x, norms);
    EXPECT_TRUE(std::isfinite(norms[0]) && std::isfinite(norms[1]));
    EXPECT_FALSE(std::isfinite(norms[2]));
  }
}

TEST_P(OptimizerTest, RefusesSegmentsOutsideTheTensors) {
  ThreadPool pool(1);
  const Exec exec{pool, GetParam()};
  const Tensor x = random(Dtype::kF32, 10, 1);
  const AdamWSegment segment{.place = StatePlace::everywhere(5, 6)};
  EXPECT_THROW(adamw(exec, {&segment, 1}, x, x, x, x), InternalError);
  const SgdSegment fitting{.place = StatePlace::everywhere(0, 10)};
  EXPECT_THROW(sgd(exec, {&fitting, 1}, x, random(Dtype::kF32, 9, 1), x), InternalError);
}

INSTANTIATE_TEST_SUITE_P(AllIsas, OptimizerTest, testing::ValuesIn(kIsas),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace cadre::kernels
