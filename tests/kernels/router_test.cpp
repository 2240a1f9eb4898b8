#include "kernels/router.h"

#include <algorithm>

#include "core/error.h"
#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

struct Case {
  int64_t tokens;
  int64_t experts;
  int64_t k;
  int64_t scopes;
  bool renormalise;
};
const std::vector<Case> kCases = {{0, 4, 2, 1, true},    {1, 1, 1, 1, true},    {6, 8, 2, 3, false},
                                  {12, 7, 7, 4, true},   {64, 8, 2, 8, true},   {30, 33, 3, 1, false},
                                  {20, 130, 6, 2, true}, {9, 512, 16, 1, true}, {1500, 16, 2, 1, true}};

std::string name(const Case& c) {
  return std::to_string(c.tokens) + " tokens, " + std::to_string(c.experts) + " experts, top " + std::to_string(c.k);
}

struct Routed {
  Tensor probs, lse, ids, weights;
};

Routed route(const Exec& exec, const Tensor& logits, int64_t k, bool renormalise, TensorView replay = {}) {
  const Dtype dtype = logits.dtype();
  const int64_t tokens = logits.shape()[0];
  Routed routed{zeros(dtype, logits.shape()), zeros(dtype, {tokens}), zeros(Dtype::kI32, {tokens, k}),
                zeros(dtype, {tokens, k})};
  router_forward(exec, logits, renormalise, replay, routed.probs, routed.lse, routed.ids, routed.weights);
  return routed;
}

TEST(Router, HandCheckedToken) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const Tensor logits = tensor_of<double>({1, 3}, {std::log(1.0), std::log(5.0), std::log(2.0)});
  const Routed routed = route(exec, logits, 2, true);
  EXPECT_EQ(values_of<int32_t>(routed.ids), (std::vector<int32_t>{1, 2}));
  EXPECT_NEAR(routed.probs.data<double>()[1], 5.0 / 8, 1e-15);
  EXPECT_NEAR(routed.weights.data<double>()[0], 5.0 / 7, 1e-15);
  EXPECT_NEAR(routed.lse.data<double>()[0], std::log(8.0), 1e-15);
}

TEST(Router, MatchesTheReference) {
  for (const Case& c : kCases) {
    compare_with_reference(
        [&](const Exec& exec, Dtype dtype) {
          const Tensor logits = random_tensor(dtype, {c.tokens, c.experts}, 1, 2);
          const Routed r = route(exec, logits, c.k, c.renormalise);
          const Tensor dweights = random_tensor(dtype, {c.tokens, c.k}, 2);
          const Tensor balance = random_tensor(dtype, {c.scopes, c.experts}, 3);
          Tensor plain = zeros(dtype, logits.shape()), full = zeros(dtype, logits.shape());
          router_backward(exec, r.probs, r.lse, r.ids, r.weights, c.renormalise, dweights, {}, 0, plain);
          router_backward(exec, r.probs, r.lse, r.ids, r.weights, c.renormalise, dweights, balance, 0.25, full);
          Tensor counts = zeros(Dtype::kI64, {c.scopes, c.experts}), sums = zeros(dtype, {c.scopes, c.experts});
          Tensor squares = zeros(dtype, {1});
          router_statistics(exec, r.probs, r.lse, r.ids, counts, sums, squares);
          return std::vector<Tensor>{r.probs, r.lse, r.ids, r.weights, plain, full, counts, sums, squares};
        },
        1e-5, name(c));
  }
}

TEST(Router, ProbabilitiesAreExactToAMillionth) {
  ThreadPool one(1);
  const Routed wanted = route(Exec{one, Isa::kPortable}, random_tensor(Dtype::kF64, {50, 100}, 4, 5), 4, true);
  for_each_isa([&](const Exec& exec) {
    const Routed got = route(exec, random_tensor(Dtype::kF32, {50, 100}, 4, 5), 4, true);
    for (int64_t i = 0; i < got.probs.elements(); ++i) {
      ASSERT_NEAR(value_at(got.probs, i), value_at(wanted.probs, i), 1e-6 * value_at(wanted.probs, i) + 1e-12);
    }
  });
}

TEST(Router, TiesGoToTheLowerIdWhereverTheyStand) {
  for (Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) {
      for (int64_t experts : {8, 19, 37, 64}) {
        Tensor logits = zeros(dtype, {3, experts});  // all equal; every other one high; the last two high
        for (int64_t e = 0; e < experts; ++e) {
          const auto set = [&](int64_t t, double value) {
            if (dtype == Dtype::kF32) logits.data<float>()[t * experts + e] = static_cast<float>(value);
            if (dtype == Dtype::kF64) logits.data<double>()[t * experts + e] = value;
          };
          set(0, 0.3);
          set(1, e % 2 == 1 ? 1.7 : 0.1);
          set(2, e >= experts - 2 ? 1.1 : -0.7);
        }
        const Routed routed = route(exec, logits, 4, true);
        const int32_t last = static_cast<int32_t>(experts);
        EXPECT_EQ(values_of<int32_t>(routed.ids),
                  (std::vector<int32_t>{0, 1, 2, 3, 1, 3, 5, 7, last - 2, last - 1, 0, 1}))
            << name_of(exec.isa) << " " << experts;
      }
    });
  }
}

TEST(Router, NanLogitsStillGiveValidIds) {
  for (Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) {
      Tensor logits = zeros(dtype, {1, 9});
      fill(exec, logits, std::nan(""));
      const Routed routed = route(exec, logits, 3, true);
      EXPECT_EQ(values_of<int32_t>(routed.ids), (std::vector<int32_t>{0, 1, 2}));
      EXPECT_TRUE(std::isnan(value_at(routed.probs, 8)));
    });
  }
}

TEST(Router, ReplayUsesTheGivenIds) {
  const std::vector<int32_t> recorded = {3, 0, 1, 2};
  compare_with_reference(
      [&](const Exec& exec, Dtype dtype) {
        const Tensor replay = tensor_of<int32_t>({2, 2}, recorded);
        const Routed r = route(exec, random_tensor(dtype, {2, 4}, 1), 2, true, replay);
        EXPECT_EQ(values_of<int32_t>(r.ids), recorded);
        return std::vector<Tensor>{r.weights};
      },
      1e-6, "replay");
  for_each_isa([&](const Exec& exec) {
    const Tensor replay = tensor_of<int32_t>({2, 2}, {0, 1, 4, 2});
    EXPECT_THROW(route(exec, random_tensor(Dtype::kF32, {2, 4}, 1), 2, true, replay), InternalError);
  });
}

// The loss of everything that router_backward promises, with the ids held by replay.
void check_gradient(int64_t k, bool renormalise, bool balanced, double z_scale) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const int64_t tokens = 4, experts = 5, scopes = 2;
  const Tensor logits = random_tensor(Dtype::kF64, {tokens, experts}, 1);
  const Tensor dweights = random_tensor(Dtype::kF64, {tokens, k}, 2);
  const Tensor balance = random_tensor(Dtype::kF64, {scopes, experts}, 3);
  const Routed held = route(exec, logits, k, renormalise);
  Tensor dlogits = zeros(Dtype::kF64, logits.shape());
  router_backward(exec, held.probs, held.lse, held.ids, held.weights, renormalise, dweights,
                  balanced ? balance.view() : TensorView{}, z_scale, dlogits);
  const auto value = [&] {
    const Routed now = route(exec, logits, k, renormalise, held.ids);
    double loss = dot(now.weights, dweights);
    for (int64_t t = 0; t < tokens; ++t) {
      loss += z_scale * now.lse.data<double>()[t] * now.lse.data<double>()[t];
      for (int64_t e = 0; balanced && e < experts; ++e) {
        const int64_t scope = t / (tokens / scopes);
        loss += balance.data<double>()[scope * experts + e] * now.probs.data<double>()[t * experts + e];
      }
    }
    return loss;
  };
  expect_gradient(logits, dlogits, value, 1e-8, "logits, top " + std::to_string(k));
}

TEST(Router, GradientAgreesWithFiniteDifferences) {
  for (int64_t k : {1, 2, 3, 5}) {
    for (bool renormalise : {false, true}) {
      check_gradient(k, renormalise, false, 0);
      check_gradient(k, renormalise, true, 0);
      check_gradient(k, renormalise, false, 0.3);
      check_gradient(k, renormalise, true, 0.3);
    }
  }
}

TEST(Router, StatisticsCountChoicesPerScope) {
  for_each_isa([](const Exec& exec) {
    const Tensor logits = tensor_of<float>({4, 3}, {9, 1, 0, 9, 0, 1, 0, 9, 1, 9, 1, 0});
    const Routed r = route(exec, logits, 2, true);
    Tensor counts = zeros(Dtype::kI64, {2, 3}), sums = zeros(Dtype::kF32, {2, 3}), squares = zeros(Dtype::kF32, {1});
    fill(exec, counts, 77);
    router_statistics(exec, r.probs, r.lse, r.ids, counts, sums, squares);
    EXPECT_EQ(values_of<int64_t>(counts), (std::vector<int64_t>{2, 1, 1, 1, 2, 1}));
    EXPECT_NEAR(sum(exec, sums), 4, 1e-6);
    Tensor thirds = zeros(Dtype::kI64, {3, 3}), third_sums = zeros(Dtype::kF32, {3, 3});
    EXPECT_THROW(router_statistics(exec, r.probs, r.lse, r.ids, thirds, third_sums, squares), InternalError);
  });
}

TEST(Router, RefusesMoreChoicesThanExperts) {
  for_each_isa([](const Exec& exec) {
    EXPECT_THROW(route(exec, random_tensor(Dtype::kF32, {2, 4}, 1), 5, true), InternalError);
  });
}

}  // namespace
}  // namespace cadre::kernels
