#include "kernels/router.h"

#include "core/error.h"
#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

struct Case {
  int64_t tokens, experts, scopes;
};
const std::vector<Case> kCases = {{0, 4, 1},   {1, 1, 1},    {6, 8, 3},   {12, 7, 4},   {64, 8, 8},
                                  {30, 33, 1}, {20, 130, 2}, {9, 512, 1}, {1500, 16, 1}};

std::string name(const Case& c) { return std::to_string(c.tokens) + " tokens, " + std::to_string(c.experts); }

// The last expert is not there.
Tensor without_last(int64_t experts) {
  Tensor mask = zeros(Dtype::kF64, {experts});
  mask.data<double>()[experts - 1] = -INFINITY;
  return mask;
}

struct Scored {
  Tensor probs, lse;
};

using Scores = decltype(router_softmax);
Scored score(Scores kernel, const Exec& exec, const Tensor& logits, TensorView mask = {}) {
  Scored scored{zeros(logits.dtype(), logits.shape()), zeros(logits.dtype(), {logits.shape()[0]})};
  kernel(exec, logits, mask, scored.probs, scored.lse);
  return scored;
}

TEST(Router, HandCheckedToken) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const Tensor logits = tensor_of<double>({1, 3}, {std::log(1.0), std::log(5.0), std::log(2.0)});
  const Scored softmax = score(router_softmax, exec, logits), sigmoid = score(router_sigmoid, exec, logits);
  EXPECT_NEAR(softmax.probs.data<double>()[1], 5.0 / 8, 1e-15);
  EXPECT_NEAR(softmax.lse.data<double>()[0], std::log(8.0), 1e-15);
  EXPECT_NEAR(sigmoid.probs.data<double>()[1], 5.0 / 6, 1e-15);
  EXPECT_NEAR(sigmoid.lse.data<double>()[0], std::log(8.0), 1e-15);
  const Scored two = score(router_softmax, exec, logits, without_last(3));
  EXPECT_NEAR(two.probs.data<double>()[1], 5.0 / 6, 1e-15);
  EXPECT_EQ(two.probs.data<double>()[2], 0);
  EXPECT_NEAR(two.lse.data<double>()[0], std::log(6.0), 1e-15);
}

TEST(Router, MatchesTheReference) {
  for (const Case& c : kCases) {
    compare_with_reference(
        [&](const Exec& exec, Dtype dtype) {
          const Tensor logits = random_tensor(dtype, {c.tokens, c.experts}, 1, 2);
          const Tensor dprobs = random_tensor(dtype, {c.tokens, c.experts}, 2),
                       dlse = random_tensor(dtype, {c.tokens}, 3);
          const Tensor mask = c.experts > 1 ? without_last(c.experts) : zeros(Dtype::kF64, {1});
          const auto empty = [&] { return zeros(dtype, logits.shape()); };
          const Scored plain = score(router_softmax, exec, logits), softmax = score(router_softmax, exec, logits, mask);
          const Scored sigmoid = score(router_sigmoid, exec, logits, mask);
          Tensor all = empty(), no_lse = empty(), no_probs = empty(), of_sigmoid = empty(), sigmoid_no_lse = empty();
          router_softmax_backward(exec, softmax.probs, dprobs, dlse, all);
          router_softmax_backward(exec, plain.probs, dprobs, {}, no_lse);
          router_softmax_backward(exec, plain.probs, {}, dlse, no_probs);
          router_sigmoid_backward(exec, logits, mask, sigmoid.probs, sigmoid.lse, dprobs, dlse, of_sigmoid);
          router_sigmoid_backward(exec, logits, mask, sigmoid.probs, sigmoid.lse, dprobs, {}, sigmoid_no_lse);
          Tensor sums = zeros(dtype, {c.scopes, c.experts}), spread = empty(),
                 added = random_tensor(dtype, logits.shape(), 4);
          scope_sums(exec, plain.probs, sums);
          scope_sums_backward(exec, sums, spread, Write::kOverwrite);
          scope_sums_backward(exec, sums, added, Write::kAccumulate);
          const Tensor of_softmax = zeros(Dtype::kF64, {c.experts + 1}),
                       of_sigmoids = zeros(Dtype::kF64, {c.experts + 1});
          score_totals(exec, softmax.probs, of_softmax);
          score_totals(exec, sigmoid.probs, of_sigmoids);
          return std::vector<Tensor>{plain.probs, plain.lse, softmax.probs, softmax.lse, sigmoid.probs,  sigmoid.lse,
                                     all,         no_lse,    no_probs,      of_sigmoid,  sigmoid_no_lse, sums,
                                     spread,      added,     of_softmax,    of_sigmoids};
        },
        1e-5, name(c));
  }
}

TEST(Router, TotalsOfHandCheckedTokens) {
  for_each_isa([](const Exec& exec) {
    // Shares 1/4, 3/4, 0; a token without scores; 1/2, 0, 1/2.
    const Tensor scores = tensor_of<float>({3, 3}, {0.1f, 0.3f, 0, 0, 0, 0, 2, 0, 2});
    const Tensor totals = zeros(Dtype::kF64, {4});
    score_totals(exec, scores, totals);
    EXPECT_NEAR(value_at(totals, 0), 0.75, 1e-6);
    EXPECT_NEAR(value_at(totals, 1), 0.75, 1e-6);
    EXPECT_NEAR(value_at(totals, 2), 0.5, 1e-6);
    EXPECT_NEAR(value_at(totals, 3), 2 * std::log(2.0) - 0.75 * std::log(3.0) + std::log(2.0), 1e-6);
    EXPECT_THROW(score_totals(exec, scores, zeros(Dtype::kF64, {3})), InternalError);
  });
}

TEST(Router, ProbabilitiesAreExactToAMillionth) {
  ThreadPool one(1);
  for (Scores* kernel : {&router_softmax, &router_sigmoid}) {
    const Scored wanted = score(*kernel, Exec{one, Isa::kPortable}, random_tensor(Dtype::kF64, {50, 100}, 4, 5));
    for_each_isa([&](const Exec& exec) {
      const Scored got = score(*kernel, exec, random_tensor(Dtype::kF32, {50, 100}, 4, 5));
      for (int64_t i = 0; i < got.probs.elements(); ++i) {
        ASSERT_NEAR(value_at(got.probs, i), value_at(wanted.probs, i), 1e-6 * value_at(wanted.probs, i) + 1e-12);
      }
    });
  }
}

TEST(Router, NanLogitsAreNotHidden) {
  for (Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) {
      Tensor logits = zeros(dtype, {1, 9});
      fill(exec, logits, std::nan(""));
      EXPECT_TRUE(std::isnan(value_at(score(router_softmax, exec, logits).probs, 8)));
      EXPECT_TRUE(std::isnan(value_at(score(router_sigmoid, exec, logits).probs, 8)));
    });
  }
}

TEST(Router, ScopesDivideTheTokens) {
  for_each_isa([](const Exec& exec) {
    const Tensor values = tensor_of<float>({4, 3}, {9, 1, 0, 9, 0, 1, 0, 9, 1, 9, 1, 0});
    Tensor sums = zeros(Dtype::kF32, {2, 3}), thirds = zeros(Dtype::kF32, {3, 3});
    scope_sums(exec, values, sums);
    EXPECT_EQ(values_of<float>(sums), (std::vector<float>{18, 1, 1, 9, 10, 1}));
    EXPECT_THROW(scope_sums(exec, values, thirds), InternalError);
  });
}

}  // namespace
}  // namespace cadre::kernels
