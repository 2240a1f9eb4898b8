#include "kernels/guard.h"

#include <cmath>

#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

void set(const Tensor& x, int64_t at, double value) {
  if (x.dtype() == Dtype::kF32) x.data<float>()[at] = static_cast<float>(value);
  if (x.dtype() == Dtype::kF64) x.data<double>()[at] = value;
}

TEST(Guard, ZeroesRowsThatAreNotFiniteAndCountsThem) {
  const std::vector<double> poisons = {std::nan(""), INFINITY, -INFINITY};
  for (Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) {
      for (const int64_t cols : {1, 7, 64, 131}) {
        Tensor rows = random_tensor(dtype, {9, cols}, 1);
        const std::vector<double> before = [&] {
          std::vector<double> values;
          for (int64_t i = 0; i < rows.elements(); ++i) values.push_back(value_at(rows, i));
          return values;
        }();
        set(rows, 1 * cols, poisons[0]);
        set(rows, 4 * cols + cols - 1, poisons[1]);
        set(rows, 6 * cols + cols / 2, poisons[2]);
        set(rows, 8 * cols, poisons[0]);  // past the last offset
        Tensor flags = zeros(Dtype::kI32, {9}), counts = zeros(Dtype::kI64, {4});
        set(rows, 7 * cols, poisons[0]);  // of an expert that is not guarded
        zero_non_finite_rows(exec, tensor_of<int64_t>({5}, {0, 2, 2, 7, 8}), tensor_of<int32_t>({4}, {1, 1, 1, 0}),
                             rows, flags, counts);
        EXPECT_EQ(values_of<int64_t>(counts), (std::vector<int64_t>{1, 0, 2, 0}));
        for (int64_t i = 0; i < 7 * cols; ++i) {
          const int64_t row = i / cols;
          const bool bad = row == 1 || row == 4 || row == 6;
          EXPECT_EQ(flags.data<int32_t>()[row], bad ? 1 : 0);
          EXPECT_EQ(value_at(rows, i), bad ? 0 : before[static_cast<size_t>(i)]);
        }
        EXPECT_TRUE(std::isnan(value_at(rows, 7 * cols)));
        EXPECT_TRUE(std::isnan(value_at(rows, 8 * cols)));
      }
    });
  }
}

TEST(Guard, LargeNumbersAreFinite) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const Tensor rows = tensor_of<float>({1, 3}, {3.4e38f, -3.4e38f, 1e-45f});
  Tensor flags = zeros(Dtype::kI32, {1}), counts = zeros(Dtype::kI64, {1});
  zero_non_finite_rows(exec, tensor_of<int64_t>({2}, {0, 1}), tensor_of<int32_t>({1}, {1}), rows, flags, counts);
  EXPECT_EQ(counts.data<int64_t>()[0], 0);
}

TEST(Guard, ScalesTheRowsOfEachExpert) {
  for (Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) {
      Tensor rows = zeros(dtype, {6, 5});
      fill(exec, rows, 3);
      set(rows, 2 * 5, std::nan(""));  // of an expert with the factor 0
      const Tensor factors = tensor_of<double>({4}, {1, 0, 0.5, 2});
      scale_expert_rows(exec, tensor_of<int64_t>({5}, {0, 2, 3, 4, 5}), factors,
                        tensor_of<int32_t>({6}, {0, 1, 0, 0, 0, 0}), rows);
      const std::vector<double> wanted = {3, 0, 0, 1.5, 6, 3};
      for (int64_t i = 0; i < 30; ++i) EXPECT_EQ(value_at(rows, i), wanted[static_cast<size_t>(i / 5)]);
    });
  }
}

}  // namespace
}  // namespace cadre::kernels
