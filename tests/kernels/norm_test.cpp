#include "kernels/norm.h"

#include "core/error.h"
#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

struct Case {
  int64_t rows;
  int64_t cols;
};
const std::vector<Case> kCases = {{0, 8}, {1, 1}, {3, 7}, {17, 16}, {65, 33}, {131, 256}, {1100, 130}};

std::string name(const Case& c) { return std::to_string(c.rows) + "x" + std::to_string(c.cols); }

TEST(RmsNorm, HandCheckedRow) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const Tensor x = tensor_of<double>({1, 2}, {3, 4});
  const Tensor weight = tensor_of<double>({2}, {1, 2});
  Tensor y = zeros(Dtype::kF64, {1, 2});
  Tensor rstd = zeros(Dtype::kF64, {1});
  rms_norm_forward(exec, x, weight, 0.5, y, rstd);  // mean of squares 12.5, + 0.5 = 13
  EXPECT_NEAR(rstd.data<double>()[0], 1 / std::sqrt(13.0), 1e-15);
  EXPECT_NEAR(y.data<double>()[1], 8 / std::sqrt(13.0), 1e-15);
}

TEST(RmsNorm, MatchesTheReference) {
  for (const Case& c : kCases) {
    compare_with_reference(
        [&](const Exec& exec, Dtype dtype) {
          const Shape shape{c.rows, c.cols};
          const Tensor x = random_tensor(dtype, shape, 1);
          const Tensor branch = random_tensor(dtype, shape, 2);
          const Tensor weight = random_tensor(dtype, {c.cols}, 3);
          const Tensor dy = random_tensor(dtype, shape, 4);
          Tensor y = zeros(dtype, shape);
          Tensor rstd = zeros(dtype, {c.rows});
          rms_norm_forward(exec, x, weight, 1e-5, y, rstd);
          Tensor sum = zeros(dtype, shape);
          Tensor y_of_sum = zeros(dtype, shape);
          Tensor rstd_of_sum = zeros(dtype, {c.rows});
          add_rms_norm_forward(exec, x, branch, weight, 1e-5, sum, y_of_sum, rstd_of_sum);
          Tensor dx = zeros(dtype, shape);
          Tensor dx_added = random_tensor(dtype, shape, 5);
          rms_norm_backward(exec, x, weight, rstd, dy, dx, Write::kOverwrite);
          rms_norm_backward(exec, x, weight, rstd, dy, dx_added, Write::kAccumulate);
          Tensor dweight = zeros(dtype, {c.cols});
          Tensor dweight_added = random_tensor(dtype, {c.cols}, 6);
          rms_norm_weight_gradient(exec, x, rstd, dy, dweight, Write::kOverwrite);
          rms_norm_weight_gradient(exec, x, rstd, dy, dweight_added, Write::kAccumulate);
          return std::vector<Tensor>{y, rstd, sum, y_of_sum, rstd_of_sum, dx, dx_added, dweight, dweight_added};
        },
        5e-5, name(c));
  }
}

TEST(RmsNorm, SumMayBeX) {
  for_each_isa([](const Exec& exec) {
    const Shape shape{9, 37};
    const Tensor x = random_tensor(Dtype::kF32, shape, 1);
    const Tensor branch = random_tensor(Dtype::kF32, shape, 2);
    const Tensor weight = random_tensor(Dtype::kF32, {37}, 3);
    Tensor sum = zeros(Dtype::kF32, shape), y = zeros(Dtype::kF32, shape), y_in_place = zeros(Dtype::kF32, shape);
    Tensor rstd = zeros(Dtype::kF32, {9});
    add_rms_norm_forward(exec, x, branch, weight, 1e-5, sum, y, rstd);
    add_rms_norm_forward(exec, x, branch, weight, 1e-5, x, y_in_place, rstd);
    expect_same_bits(sum, x, "sum");
    expect_same_bits(y, y_in_place, "y");
  });
}

TEST(RmsNorm, StridedRows) {
  for_each_isa([](const Exec& exec) {
    const Tensor x = random_tensor(Dtype::kF32, {9, 37}, 1);
    const Tensor weight = random_tensor(Dtype::kF32, {37}, 3);
    Tensor y = zeros(Dtype::kF32, {9, 37}), same = zeros(Dtype::kF32, {9, 37}), rstd = zeros(Dtype::kF32, {9});
    Tensor storage;
    rms_norm_forward(exec, x, weight, 1e-5, y, rstd);
    rms_norm_forward(exec, with_padded_rows(exec, x, 5, storage), weight, 1e-5, same, rstd);
    expect_same_bits(y, same, "y");
  });
}

TEST(RmsNorm, GradientsAgreeWithFiniteDifferences) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const Tensor x = random_tensor(Dtype::kF64, {3, 5}, 1);
  const Tensor weight = random_tensor(Dtype::kF64, {5}, 2);
  const Tensor dy = random_tensor(Dtype::kF64, {3, 5}, 3);
  Tensor y = zeros(Dtype::kF64, {3, 5}), dx = zeros(Dtype::kF64, {3, 5});
  Tensor rstd = zeros(Dtype::kF64, {3}), dweight = zeros(Dtype::kF64, {5});
  const auto value = [&] {
    rms_norm_forward(exec, x, weight, 1e-2, y, rstd);
    return dot(y, dy);
  };
  value();
  rms_norm_backward(exec, x, weight, rstd, dy, dx, Write::kOverwrite);
  rms_norm_weight_gradient(exec, x, rstd, dy, dweight, Write::kOverwrite);
  expect_gradient(x, dx, value, 1e-8, "x");
  expect_gradient(weight, dweight, value, 1e-8, "weight");
}

TEST(RmsNorm, RefusesAWeightOfAnotherWidth) {
  for_each_isa([](const Exec& exec) {
    const Tensor x = zeros(Dtype::kF32, {2, 4});
    EXPECT_THROW(rms_norm_forward(exec, x, zeros(Dtype::kF32, {5}), 1e-5, x, zeros(Dtype::kF32, {2})), InternalError);
  });
}

}  // namespace
}  // namespace cadre::kernels
