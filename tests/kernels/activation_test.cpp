#include "kernels/activation.h"

#include "core/error.h"
#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

int64_t hidden_width(Activation kind, int64_t width) { return kind == Activation::kSwiGlu ? 2 * width : width; }

class ActivationTest : public ::testing::TestWithParam<Activation> {};
INSTANTIATE_TEST_SUITE_P(Kinds, ActivationTest, ::testing::Values(Activation::kSwiGlu, Activation::kGelu));

TEST(Activation, HandCheckedValues) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  Tensor out = zeros(Dtype::kF64, {1, 1});
  activation_forward(exec, Activation::kSwiGlu, tensor_of<double>({1, 2}, {2, 3}), {}, out);
  EXPECT_NEAR(out.data<double>()[0], 6 / (1 + std::exp(-2.0)), 1e-14);
  activation_forward(exec, Activation::kGelu, tensor_of<double>({1, 1}, {1}), {}, out);
  EXPECT_NEAR(out.data<double>()[0], 0.8411919906082768, 1e-12);
}

TEST_P(ActivationTest, MatchesTheReference) {
  for (int64_t width : {1, 3, 16, 37, 256, 1025}) {
    for (int64_t rows : {0, 1, 5, 67}) {
      compare_with_reference(
          [&](const Exec& exec, Dtype dtype) {
            const Tensor h = random_tensor(dtype, {rows, hidden_width(GetParam(), width)}, 1, 4);
            const Tensor dout = random_tensor(dtype, {rows, width}, 2);
            Tensor out = zeros(dtype, {rows, width});
            Tensor dh = zeros(dtype, h.shape());
            activation_forward(exec, GetParam(), h, {}, out);
            activation_backward(exec, GetParam(), h, {}, dout, dh);
            activation_backward(exec, GetParam(), h, {}, dout, h);  // in place
            return std::vector<Tensor>{out, dh, h};
          },
          3e-6, std::to_string(rows) + "x" + std::to_string(width));
    }
  }
}

TEST_P(ActivationTest, LargeInputsStayFiniteAndNanShows) {
  for_each_isa([&](const Exec& exec) {
    for (float x : {-1e30f, -200.0f, -95.0f, 95.0f, 200.0f, 1e30f}) {
      Tensor h = zeros(Dtype::kF32, {1, hidden_width(GetParam(), 1)});
      Tensor out = zeros(Dtype::kF32, {1, 1}), dout = tensor_of<float>({1, 1}, {1}), dh = zeros(Dtype::kF32, h.shape());
      fill(exec, h, 1);
      h.data<float>()[0] = x;
      activation_forward(exec, GetParam(), h, {}, out);
      activation_backward(exec, GetParam(), h, {}, dout, dh);
      EXPECT_EQ(out.data<float>()[0], x > 0 ? x : 0) << x;
      EXPECT_EQ(dh.data<float>()[0], x > 0 ? 1 : 0) << x;
    }
    Tensor h = zeros(Dtype::kF32, {1, hidden_width(GetParam(), 1)}), out = zeros(Dtype::kF32, {1, 1});
    fill(exec, h, std::nan(""));
    activation_forward(exec, GetParam(), h, {}, out);
    EXPECT_TRUE(std::isnan(out.data<float>()[0]));
  });
}

TEST_P(ActivationTest, RowsEndLeavesTheRestAlone) {
  for (Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) {
      const Tensor h = random_tensor(dtype, {6, hidden_width(GetParam(), 5)}, 1);
      Tensor out = zeros(dtype, {6, 5}), dh = zeros(dtype, h.shape());
      fill(exec, out, 9);
      fill(exec, dh, 9);
      activation_forward(exec, GetParam(), h, tensor_of<int64_t>({1}, {4}), out);
      activation_backward(exec, GetParam(), h, tensor_of<int64_t>({1}, {4}), out, dh);
      for (int64_t i = 0; i < out.elements(); ++i) EXPECT_EQ(value_at(out, i) == 9, i >= 20) << i;
      for (int64_t i = 0; i < dh.elements(); ++i) EXPECT_EQ(value_at(dh, i) == 9, i / h.shape()[1] >= 4) << i;
    });
  }
}

TEST_P(ActivationTest, GradientAgreesWithFiniteDifferences) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const Tensor h = random_tensor(Dtype::kF64, {3, hidden_width(GetParam(), 4)}, 1, 2);
  const Tensor dout = random_tensor(Dtype::kF64, {3, 4}, 2);
  Tensor out = zeros(Dtype::kF64, {3, 4}), dh = zeros(Dtype::kF64, h.shape());
  activation_backward(exec, GetParam(), h, {}, dout, dh);
  const auto value = [&] {
    activation_forward(exec, GetParam(), h, {}, out);
    return dot(out, dout);
  };
  expect_gradient(h, dh, value, 1e-8, "h");
}

// Rows of three kinds in one run against each alone; rows and columns outside them keep what they had.
TEST(Activation, PartsTogetherEqualThoseAloneBitForBit) {
  constexpr int64_t kRows = 95, kHidden = 80, kWidth = 41;
  const Tensor bounds = tensor_of<int64_t>({5}, {3, 30, 30, 77, 91});
  const struct {
    Activation kind;
    int64_t first, last, width;
  } kinds[] = {{Activation::kSwiGlu, 0, 1, 37},
               {Activation::kGelu, 1, 2, 5},  // without rows
               {Activation::kGelu, 2, 3, kWidth},
               {Activation::kSwiGlu, 3, 4, 3}};
  const auto row = [&](int64_t i) { return bounds.view().columns(i, i + 1); };
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) {
      const Tensor h = random_tensor(dtype, {kRows, kHidden}, 1, 4), dout = random_tensor(dtype, {kRows, kWidth}, 2);
      std::vector<Tensor> results[2];  // together, alone
      for (std::vector<Tensor>& result : results) {
        const bool together = &result == results;
        result = {random_tensor(dtype, {kRows, kWidth}, 3), random_tensor(dtype, {kRows, kHidden}, 4)};
        std::vector<ActivationPart> forward;
        std::vector<ActivationGradientPart> backward;
        for (const auto& [kind, first, last, width] : kinds) {
          const int64_t hidden = hidden_columns(kind, width);
          const TensorView part = h.view().columns(0, hidden);
          forward.push_back({kind, {row(first), row(last)}, part, result[0].view().columns(0, width)});
          backward.push_back({kind,
                              {row(first), row(last)},
                              part,
                              dout.view().columns(0, width),
                              result[1].view().columns(0, hidden)});
          if (together) continue;
          activation_forward(exec, {&forward.back(), 1});
          activation_backward(exec, {&backward.back(), 1});
        }
        if (!together) continue;
        activation_forward(exec, forward);
        activation_backward(exec, backward);
      }
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(std::memcmp(results[0][i].raw(), results[1][i].raw(), results[1][i].bytes()), 0) << i;
        const Tensor before = random_tensor(dtype, results[0][i].shape(), 3 + i);
        for (int64_t j = 0; j < before.elements(); ++j) {
          const int64_t at = j / before.shape()[1], column = j % before.shape()[1];
          bool owned = false;
          for (const auto& [kind, first, last, width] : kinds) {
            const int64_t* b = bounds.data<int64_t>();
            owned |= at >= b[first] && at < b[last] && column < (i == 0 ? width : hidden_columns(kind, width));
          }
          ASSERT_EQ(value_at(results[0][i], j) != value_at(before, j), owned) << i << " " << at << " " << column;
        }
      }
    });
  }
}

TEST(Activation, RefusesAWidthThatDoesNotFit) {
  for_each_isa([](const Exec& exec) {
    EXPECT_THROW(
        activation_forward(exec, Activation::kSwiGlu, zeros(Dtype::kF32, {2, 6}), {}, zeros(Dtype::kF32, {2, 6})),
        InternalError);
  });
}

}  // namespace
}  // namespace cadre::kernels
