#include "kernels/choice.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

Tensor choose(const Exec& exec, const Tensor& probs, int64_t k, const Choice& choice = {}, TensorView bias = {}) {
  Tensor ids = zeros(Dtype::kI32, {probs.shape()[0], k});
  choose_experts(exec, probs, bias, choice, ids);
  return ids;
}

// Scores in (0, 1).
Tensor scores(Dtype dtype, int64_t tokens, int64_t experts) {
  Tensor x = random_tensor(dtype, {tokens, experts}, 1);
  for (int64_t i = 0; i < x.elements(); ++i) {
    const double value = 0.5 + 0.4 * std::tanh(value_at(x, i));
    if (dtype == Dtype::kF32) x.data<float>()[i] = static_cast<float>(value);
    if (dtype == Dtype::kF64) x.data<double>()[i] = value;
  }
  return x;
}

struct Case {
  int64_t tokens, experts, k;
};
const std::vector<Case> kCases = {{0, 4, 2},   {1, 1, 1},    {6, 8, 2},    {12, 7, 7},   {64, 8, 2},
                                  {30, 33, 3}, {20, 128, 6}, {9, 512, 16}, {1500, 16, 2}};

TEST(Choice, MatchesTheReference) {
  for (const Case& c : kCases) {
    compare_with_reference(
        [&](const Exec& exec, Dtype dtype) {
          const Tensor probs = scores(dtype, c.tokens, c.experts), dweights = random_tensor(dtype, {c.tokens, c.k}, 2);
          const Tensor bias = random_tensor(Dtype::kF64, {c.experts}, 3, 0.2);
          const int64_t groups = c.experts % 4 == 0 && c.k <= c.experts / 2 ? 4 : 1;
          const Choice limited{.groups = groups, .kept_groups = (groups + 1) / 2};
          const Choice by_best{.groups = groups, .kept_groups = (groups + 1) / 2, .group_score = GroupScore::kMax};
          const Choice top_p{.kind = ChoiceKind::kTopP, .top_p = 0.3};
          std::vector<Tensor> all = {choose(exec, probs, c.k), choose(exec, probs, c.k, {}, bias),
                                     choose(exec, probs, c.k, limited, bias), choose(exec, probs, c.k, by_best),
                                     choose(exec, probs, c.k, top_p)};
          for (const Tensor& ids : {all[0], all[4]}) {
            for (const bool renormalise : {false, true}) {
              Tensor weights = zeros(dtype, {c.tokens, c.k}), overwritten = zeros(dtype, probs.shape());
              Tensor added = random_tensor(dtype, probs.shape(), 5);
              gate_weights(exec, probs, ids, renormalise, 2.5, weights);
              gate_weights_backward(exec, probs, ids, renormalise, 2.5, dweights, overwritten, Write::kOverwrite);
              gate_weights_backward(exec, probs, ids, renormalise, 2.5, dweights, added, Write::kAccumulate);
              Tensor dense = random_tensor(dtype, probs.shape(), 6), back = zeros(dtype, {c.tokens, c.k});
              spread_weights(exec, weights, ids, dense);
              spread_weights_backward(exec, dense, ids, back);
              for (const Tensor& tensor : {weights, overwritten, added, dense, back}) all.push_back(tensor);
            }
          }
          return all;
        },
        1e-5, std::to_string(c.tokens) + " tokens, " + std::to_string(c.experts) + " experts");
  }
}

void for_each_type(const std::function<void(const Exec&, Dtype)>& body) {
  for (Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) { body(exec, dtype); });
  }
}

Tensor tensor_as(Dtype dtype, const Shape& shape, const std::vector<double>& values) {
  if (dtype == Dtype::kF64) return tensor_of<double>(shape, values);
  return tensor_of<float>(shape, {values.begin(), values.end()});
}

TEST(Choice, TiesGoToTheLowerIdWhereverTheyStand) {
  for_each_type([](const Exec& exec, Dtype dtype) {
    for (int64_t experts : {8, 19, 37, 64}) {
      std::vector<double> values;
      for (int64_t e = 0; e < experts; ++e) values.push_back(0.3);
      for (int64_t e = 0; e < experts; ++e) values.push_back(e % 2 == 1 ? 1.7 : 0.1);
      for (int64_t e = 0; e < experts; ++e) values.push_back(e >= experts - 2 ? 1.1 : -0.7);
      const Tensor ids = choose(exec, tensor_as(dtype, {3, experts}, values), 4);
      const auto last = static_cast<int32_t>(experts);
      EXPECT_EQ(values_of<int32_t>(ids), (std::vector<int32_t>{0, 1, 2, 3, 1, 3, 5, 7, last - 2, last - 1, 0, 1}));
    }
  });
}

TEST(Choice, ABiasChangesTheChoiceAndMaskedOnesComeLast) {
  for_each_type([](const Exec& exec, Dtype dtype) {
    const Tensor probs = tensor_as(dtype, {1, 4}, {0.4, 0.3, 0.2, 0.1});
    const Tensor bias = tensor_of<double>({4}, {-INFINITY, 0, 0.05, 0.25});
    EXPECT_EQ(values_of<int32_t>(choose(exec, probs, 3, {}, bias)), (std::vector<int32_t>{3, 1, 2}));
    EXPECT_EQ(values_of<int32_t>(choose(exec, probs, 4, {}, bias)), (std::vector<int32_t>{3, 1, 2, 0}));
  });
}

TEST(Choice, GroupsAreChosenByTheirTwoBestOrTheirBest) {
  for_each_type([](const Exec& exec, Dtype dtype) {
    const Tensor probs = tensor_as(dtype, {1, 6}, {0.9, 0.1, 0.6, 0.5, 0.3, 0.2});
    const Choice two{.groups = 3, .kept_groups = 1},
        best{.groups = 3, .kept_groups = 1, .group_score = GroupScore::kMax};
    EXPECT_EQ(values_of<int32_t>(choose(exec, probs, 2, two)), (std::vector<int32_t>{2, 3}));
    EXPECT_EQ(values_of<int32_t>(choose(exec, probs, 2, best)), (std::vector<int32_t>{0, 1}));
  });
}

TEST(Choice, TopPTakesAsFewAsItNeeds) {
  for_each_type([](const Exec& exec, Dtype dtype) {
    const Tensor probs = tensor_as(dtype, {3, 4}, {0.7, 0.1, 0.1, 0.1, 0.3, 0.3, 0.2, 0.2, 0.25, 0.25, 0.25, 0.25});
    const Choice choice{.kind = ChoiceKind::kTopP, .top_p = 0.6};
    EXPECT_EQ(values_of<int32_t>(choose(exec, probs, 3, choice)), (std::vector<int32_t>{0, -1, -1, 0, 1, -1, 0, 1, 2}));
  });
}

TEST(Choice, BaselinesIgnoreScores) {
  for_each_type([](const Exec& exec, Dtype dtype) {
    const Tensor probs = scores(dtype, 600, 8);
    const Tensor balanced = choose(exec, probs, 4, {.kind = ChoiceKind::kBalanced});
    Tensor counts = zeros(Dtype::kI64, {1, 8});
    choice_counts(exec, balanced, counts);
    EXPECT_EQ(values_of<int64_t>(counts), std::vector<int64_t>(8, 300));
    Choice random{.kind = ChoiceKind::kRandom, .seed = 5};
    const std::vector<int32_t> drawn = values_of<int32_t>(choose(exec, probs, 4, random));
    choice_counts(exec, tensor_of<int32_t>({600, 4}, drawn), counts);
    for (const int64_t count : values_of<int64_t>(counts)) EXPECT_NEAR(double(count), 300, 75);
    for (size_t t = 0; t < 600; ++t) EXPECT_EQ(std::set<int32_t>(&drawn[4 * t], &drawn[4 * t] + 4).size(), 4U);
    // A token's draws are its own, wherever it stands.
    random.first_row = 100;
    const std::vector<int32_t> later = values_of<int32_t>(choose(exec, scores(dtype, 500, 8), 4, random));
    EXPECT_TRUE(std::equal(later.begin(), later.end(), drawn.begin() + 400));
    random.stream = 1;
    EXPECT_NE(values_of<int32_t>(choose(exec, scores(dtype, 500, 8), 4, random)), later);
  });
}

TEST(Choice, NanScoresStillGiveValidIds) {
  for_each_type([](const Exec& exec, Dtype dtype) {
    Tensor probs = zeros(dtype, {1, 9});
    fill(exec, probs, std::nan(""));
    EXPECT_EQ(values_of<int32_t>(choose(exec, probs, 3)), (std::vector<int32_t>{0, 1, 2}));
    EXPECT_EQ(values_of<int32_t>(choose(exec, probs, 3, {}, zeros(Dtype::kF64, {9}))), (std::vector<int32_t>{0, 1, 2}));
  });
}

TEST(Choice, CountsLeaveOutUnusedPlaces) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  Tensor counts = zeros(Dtype::kI64, {2, 3});
  fill(exec, counts, 77);
  choice_counts(exec, tensor_of<int32_t>({4, 2}, {0, 1, 0, -1, 2, 1, -1, -1}), counts);
  EXPECT_EQ(values_of<int64_t>(counts), (std::vector<int64_t>{2, 1, 0, 0, 1, 1}));
}

TEST(Choice, RefusesWhatDoesNotFit) {
  for_each_isa([](const Exec& exec) {
    const Tensor probs = scores(Dtype::kF32, 2, 4);
    EXPECT_THROW(choose(exec, probs, 5), InternalError);
    EXPECT_THROW(choose(exec, probs, 2, {.groups = 3}), InternalError);
    EXPECT_THROW(choose(exec, probs, 3, {.groups = 2, .kept_groups = 1}), InternalError);
    Tensor weights = zeros(Dtype::kF32, {2, 2});
    EXPECT_THROW(gate_weights(exec, probs, tensor_of<int32_t>({2, 2}, {0, 1, 4, 2}), true, 1, weights), InternalError);
  });
}

}  // namespace
}  // namespace cadre::kernels
