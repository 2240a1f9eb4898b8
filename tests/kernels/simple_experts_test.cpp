#include "kernels/simple_experts.h"

#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

// Id 0 computes elsewhere, 1 copies, 2 is a constant, 3 gives nothing.
const SimpleExperts kExperts{1, {SimpleExperts::kCopy, 0, SimpleExperts::kZero}};

TEST(SimpleExperts, HandChecked) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) {
      const Tensor x = random_tensor(dtype, {4, 11}, 1), weights = random_tensor(dtype, {4, 2}, 2);
      const Tensor constants = random_tensor(dtype, {1, 3, 11}, 3), out = random_tensor(dtype, {4, 11}, 4);
      const Tensor before = random_tensor(dtype, {4, 11}, 4);
      add_simple_experts(exec, kExperts, x, tensor_of<int32_t>({4, 2}, {0, 3, 1, 0, 2, -1, 2, 1}), weights, constants,
                         out);
      for (int64_t t = 0; t < 4; ++t) {
        double difference = 0;
        for (int64_t c = 0; c < 11; ++c) {
          difference += value_at(x, t * 11 + c) * (value_at(constants, 11 + c) - value_at(constants, 22 + c));
        }
        const double a1 = 1 / (1 + std::exp(-difference));
        for (int64_t c = 0; c < 11; ++c) {
          const double in = value_at(x, t * 11 + c), mixed = a1 * in + (1 - a1) * value_at(constants, c);
          const double first = value_at(weights, t * 2), second = value_at(weights, t * 2 + 1);
          const double added[] = {0, first * in, first * mixed, first * mixed + second * in};
          EXPECT_NEAR(value_at(out, t * 11 + c), value_at(before, t * 11 + c) + added[t], 1e-5) << t;
        }
      }
    });
  }
}

// A loss scale is in the gradient of what an expert has, and not in what leaves it; detached, nothing leaves it.
TEST(SimpleExperts, FactorsStandAroundAnExpert) {
  ThreadPool threads(1);
  const Exec exec{threads, best_isa()};
  const Tensor x = random_tensor(Dtype::kF64, {4, 11}, 1), weights = random_tensor(Dtype::kF64, {4, 1}, 2);
  const Tensor constants = random_tensor(Dtype::kF64, {1, 3, 11}, 3), dout = random_tensor(Dtype::kF64, {4, 11}, 4);
  const Tensor ids = tensor_of<int32_t>({4, 1}, {0, 1, 2, 2});
  struct Gradients {
    std::vector<double> x, weights, constants;
  };
  const auto gradients = [&](const SimpleFactors& factors) {
    const Tensor dx = zeros(Dtype::kF64, {4, 11}), dweights = zeros(Dtype::kF64, {4, 1}),
                 dconstants = zeros(Dtype::kF64, {1, 3, 11});
    simple_experts_backward(exec, kExperts, factors, x, ids, weights, constants, dout, dx, Write::kOverwrite, dweights);
    simple_experts_gradient(exec, kExperts, factors, x, ids, weights, constants, dout, dconstants, Write::kOverwrite);
    return Gradients{values_of<double>(dx), values_of<double>(dweights), values_of<double>(dconstants)};
  };
  const Tensor scale = tensor_of<double>({4}, {1, 4, 4, 4}), inverse = tensor_of<double>({4}, {1, 0.25, 0.25, 0.25}),
               cut = tensor_of<double>({4}, {0, 0, 0, 0});
  const Gradients plain = gradients({}), scaled = gradients({scale, inverse}), detached = gradients({{}, cut});
  EXPECT_EQ(scaled.x, plain.x);
  EXPECT_EQ(scaled.weights, plain.weights);
  for (size_t i = 0; i < plain.constants.size(); ++i) EXPECT_EQ(scaled.constants[i], 4 * plain.constants[i]);
  EXPECT_NE(plain.x, std::vector<double>(44, 0.0));
  EXPECT_EQ(detached.x, std::vector<double>(44, 0.0));
  EXPECT_EQ(detached.weights, plain.weights);
  EXPECT_EQ(detached.constants, plain.constants);
}

}  // namespace
}  // namespace cadre::kernels
