// The same bits on every layout: the gradients of four micro-batches, shared out in different ways.

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "autograd/gradient_tree.h"
#include "parallel/comm/thread.h"
#include "tests/model/tiny_model.h"

namespace cadre::model::testing {
namespace {

using parallel::DispatcherKind;
using parallel::DispatchOptions;
using Gradients = std::map<std::string, std::vector<float>>;  // by segment

constexpr int kMicroBatches = 4;

struct Case {
  int ranks;
  int expert;  // ranks of an expert group
  NetworkSettings settings = tiny_settings();
  DispatchOptions dispatch{};
  autograd::BackwardPart part = autograd::BackwardPart::kAll;
};

// Of `rank`'s micro-batches.
Gradients gradients_of(TinyModel& model, const Case& c, int rank) {
  const int count = kMicroBatches / c.ranks;
  model.part = c.part;
  autograd::GradientTrees trees(model.context, model.store);
  for (int step = 0; step < 2; ++step) {  // the second must not see the first
    trees.start_step();
    for (int i = 0; i < count; ++i) {
      model.draw({.stream = static_cast<uint64_t>(rank * count + i)});
      model.accumulate([&](autograd::Parameter& parameter) { trees.complete(parameter, i + 1 == count); });
    }
  }
  Gradients result;
  for (const autograd::GradientTrees::Use& use : trees.other_uses()) {
    const float* begin = use.gradient.data<float>();
    result["other use"].assign(begin, begin + use.gradient.elements());
  }
  for (const auto& parameter : model.store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      const float* begin = parameter->gradient.data<float>() + segment.offset;
      result[segment.name].assign(begin, begin + segment.count());
    }
  }
  return result;
}

// In the binary tree over what holds a segment, in order of ranks.
std::vector<float> sum_of(std::vector<std::vector<float>> parts) {
  for (size_t step = 1; step < parts.size(); step *= 2) {
    for (size_t i = 0; i + step < parts.size(); i += 2 * step) {
      for (size_t j = 0; j < parts[i].size(); ++j) parts[i][j] += parts[i + step][j];
    }
  }
  return parts.front();
}

Gradients run(const Case& c) {
  std::vector<Gradients> by_rank(static_cast<size_t>(c.ranks));
  parallel::ThreadWorld(c.ranks).run([&](parallel::Communicator& world) {
    const auto group = world.split(world.rank() / c.expert, world.rank(), "expert");
    const auto placement = parallel::Placement::even(c.settings.moe.num_experts, c.expert);
    const ExpertShard shard = c.expert == 1
                                  ? ExpertShard::whole(c.settings.moe.num_experts)
                                  : ExpertShard{placement.held_by(group->rank()),
                                                parallel::make_group_dispatcher(*group, placement, c.dispatch)};
    TinyModel model(c.settings, shard, Dtype::kF32, {});
    by_rank[static_cast<size_t>(world.rank())] = gradients_of(model, c, world.rank());
  });
  std::map<std::string, std::vector<std::vector<float>>> parts;
  for (const Gradients& mine : by_rank) {
    for (const auto& [name, gradient] : mine) parts[name].push_back(gradient);
  }
  Gradients sums;
  for (auto& [name, gradients] : parts) sums[name] = sum_of(std::move(gradients));
  return sums;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_same(const Gradients& got, const Gradients& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (const auto& [name, gradient] : wanted) EXPECT_TRUE(same_bits(got.at(name), gradient)) << name;
}

constexpr DispatchOptions kReproducible{.reproducible = true};

TEST(Reproducible, GradientsHaveTheSameBitsOnEveryLayout) {
  const Gradients wanted = run({.ranks = 1, .expert = 1});
  expect_same(run({.ranks = 2, .expert = 1}), wanted);
  expect_same(run({.ranks = 4, .expert = 1}), wanted);
  for (const DispatcherKind kind : {DispatcherKind::kAllToAll, DispatcherKind::kAllGather}) {
    for (const int64_t chunks : {1, 2, 3}) {
      for (const int64_t max_rows : {0, 1, 11}) {
        const DispatchOptions dispatch{.kind = kind, .max_rows = max_rows, .chunks = chunks, .reproducible = true};
        expect_same(run({.ranks = 2, .expert = 2, .dispatch = dispatch}), wanted);
        expect_same(run({.ranks = 4, .expert = 4, .dispatch = dispatch}), wanted);
      }
    }
  }
  expect_same(run({.ranks = 4, .expert = 2, .dispatch = kReproducible}), wanted);
}

// Else the test above would prove nothing.
TEST(Reproducible, WithoutItBitsDependOnTheLayout) {
  const Gradients wanted = run({.ranks = 1, .expert = 1}), got = run({.ranks = 2, .expert = 2});
  int differ = 0;
  for (const auto& [name, gradient] : wanted) differ += same_bits(got.at(name), gradient) ? 0 : 1;
  EXPECT_GT(differ, 0);
}

TEST(Reproducible, RecomputeCapacityAndDeferredParametersKeepTheBits) {
  for (const RecomputeMode mode : {RecomputeMode::kNone, RecomputeMode::kSelective, RecomputeMode::kFull}) {
    Case one{.ranks = 1, .expert = 1};
    one.settings.recompute.mode = mode;
    one.settings.moe.capacity_factor = 0.8;
    Case many = one;
    many.ranks = many.expert = 4;
    many.dispatch = {.max_rows = 7, .chunks = 2, .reproducible = true};
    many.part = autograd::BackwardPart::kInputsOnly;
    expect_same(run(many), run(one));
  }
}

TEST(Reproducible, UntiedEmbeddingsAndOtherLayersToo) {
  Case one{.ranks = 1, .expert = 1};
  one.settings.model.tie_embeddings = false;
  one.settings.moe.dense_layers = 1;
  Case many = one;
  many.ranks = many.expert = 2;
  many.dispatch = kReproducible;
  expect_same(run(many), run(one));
}

TEST(Reproducible, ReplicasAreRefused) {
  parallel::ThreadWorld(2).run([](parallel::Communicator& world) {
    EXPECT_THROW(parallel::make_group_dispatcher(world, parallel::Placement::even(1, 2), kReproducible), ConfigError);
  });
}

}  // namespace
}  // namespace cadre::model::testing
