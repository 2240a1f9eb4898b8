#include "kernels/expert_choice.h"

#include <cmath>
#include <limits>

#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

Tensor of_dtype(Dtype dtype, Shape shape, const std::vector<double>& values) {
  Tensor tensor = zeros(dtype, shape);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    const double value = values[static_cast<size_t>(i)];
    dtype == Dtype::kF64 ? void(tensor.data<double>()[i] = value)
                         : void(tensor.data<float>()[i] = static_cast<float>(value));
  }
  return tensor;
}

void for_each_type(const auto& body) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) { body(exec, dtype); });
  }
}

// By column: a tie of tokens 0 and 3 for the second place of expert 1.
const std::vector<double> kScores = {0.5,   0.25,  0.125,  //
                                     0.25,  0.75,  0.5,    //
                                     0.75,  0.125, 0.25,   //
                                     0.125, 0.25,  1};

TEST(ExpertChoice, EachTakesItsHighestKeysAndTiesGoToTheLowerToken) {
  for_each_type([](const Exec& exec, Dtype dtype) {
    const Tensor scores = of_dtype(dtype, {4, 3}, kScores), ids = zeros(Dtype::kI32, {4, 3});
    choose_tokens(exec, scores, {}, 2, ids);
    EXPECT_EQ(values_of<int32_t>(ids), (std::vector<int32_t>{0, 1, -1, -1, 1, 2, 0, -1, -1, -1, -1, 2}));
    const Tensor lowest = zeros(Dtype::kF64, {3});
    lowest_keys(exec, scores, {}, ids, lowest);
    EXPECT_EQ(values_of<double>(lowest), (std::vector<double>{0.5, 0.25, 0.5}));
    choose_tokens(exec, scores, {}, 9, ids);
    EXPECT_EQ(values_of<int32_t>(ids), (std::vector<int32_t>{0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2}));
    choose_tokens(exec, scores, {}, 0, ids);
    EXPECT_EQ(values_of<int32_t>(ids), std::vector<int32_t>(12, -1));
  });
}

TEST(ExpertChoice, AnAbsentExpertTakesNothingAndABiasCountsInThresholds) {
  for_each_type([](const Exec& exec, Dtype dtype) {
    const Tensor scores = of_dtype(dtype, {4, 3}, kScores), ids = zeros(Dtype::kI32, {4, 3});
    const Tensor bias = tensor_of<double>({3}, {-INFINITY, 1, 0}), thresholds = tensor_of<double>({3}, {0, 1.25, 0.5});
    choose_tokens(exec, scores, bias, 1, ids);
    EXPECT_EQ(values_of<int32_t>(ids), (std::vector<int32_t>{-1, -1, -1, -1, 1, -1, -1, -1, -1, -1, -1, 2}));
    const Tensor lowest = zeros(Dtype::kF64, {3});
    lowest_keys(exec, scores, bias, ids, lowest);
    EXPECT_EQ(values_of<double>(lowest), (std::vector<double>{INFINITY, 1.75, 1}));
    choose_tokens_above(exec, scores, bias, thresholds, ids);
    EXPECT_EQ(values_of<int32_t>(ids), (std::vector<int32_t>{-1, 1, -1, -1, 1, 2, -1, -1, -1, -1, 1, 2}));
  });
}

// Sizes on both sides of the bound from which threads share the work, with many ties.
TEST(ExpertChoice, TakesAsManyAsASortDoes) {
  for_each_type([](const Exec& exec, Dtype dtype) {
    for (const int64_t tokens : {1, 100, 3001}) {
      const int64_t experts = 7, each = tokens / 3;
      const Tensor draws = random_ids({tokens, experts}, 50, 3);
      std::vector<double> values;
      for (int64_t i = 0; i < draws.elements(); ++i) values.push_back(draws.data<int32_t>()[i]);
      const Tensor scores = of_dtype(dtype, {tokens, experts}, values), ids = zeros(Dtype::kI32, {tokens, experts});
      choose_tokens(exec, scores, {}, each, ids);
      for (int64_t e = 0; e < experts; ++e) {
        std::vector<int64_t> order(static_cast<size_t>(tokens));
        for (int64_t t = 0; t < tokens; ++t) order[static_cast<size_t>(t)] = t;
        const auto key = [&](int64_t t) { return values[static_cast<size_t>(t * experts + e)]; };
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return key(a) > key(b); });
        for (int64_t place = 0; place < tokens; ++place) {
          const int64_t token = order[static_cast<size_t>(place)];
          EXPECT_EQ(ids.data<int32_t>()[token * experts + e], place < each ? e : -1) << token;
        }
      }
    }
  });
}

}  // namespace
}  // namespace cadre::kernels
