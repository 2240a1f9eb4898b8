#include "tests/kernels/elementwise_test.h"

#include "core/error.h"

namespace cadre::kernels {
namespace {

const std::vector<Shape> kShapes = {{1}, {3, 1}, {1, 17}, {7, 13}, {5, 4099}, {0, 8}, {64, 1000}};

TEST(Elementwise, FillCopyAddScaleMatchTheReference) {
  for (const Shape& shape : kShapes) {
    compare_with_reference(
        [&](const Exec& exec, Dtype dtype) {
          const Tensor a = random_tensor(dtype, shape, 1);
          const Tensor b = random_tensor(dtype, shape, 2);
          Tensor sum = zeros(dtype, shape);
          Tensor copied = zeros(dtype, shape);
          Tensor filled = zeros(dtype, shape);
          add(exec, a, b, sum);
          copy(exec, a, copied);
          scale(exec, -0.5, copied);
          fill(exec, filled, 3.25);
          accumulate(exec, a, filled);
          return std::vector<Tensor>{sum, copied, filled};
        },
        1e-6, shape.to_string());
  }
}

TEST(Elementwise, StridedRowsLeaveTheRestAlone) {
  for_each_isa([](const Exec& exec) {
    Tensor storage;
    const TensorView view = with_padded_rows(exec, random_tensor(Dtype::kF32, {5, 21}, 1), 3, storage);
    fill(exec, view, 2);
    accumulate(exec, view, view);
    scale(exec, 0.5, view);
    for (int64_t i = 0; i < storage.elements(); ++i) ASSERT_EQ(storage.data<float>()[i], i % 24 < 21 ? 2.0f : 0.0f);
    EXPECT_EQ(sum(exec, view), 5 * 21 * 2.0);
  });
}

TEST(Elementwise, CopyConverts) {
  for_each_isa([](const Exec& exec) {
    const Tensor wide = random_tensor(Dtype::kF64, {9, 5}, 3);
    Tensor narrow = zeros(Dtype::kF32, {9, 5});
    Tensor back = zeros(Dtype::kF64, {9, 5});
    copy(exec, wide, narrow);
    copy(exec, narrow, back);
    expect_same_bits(wide, back, "round trip");
    Tensor whole = zeros(Dtype::kI64, {3});
    fill(exec, whole, -4);
    EXPECT_EQ(values_of<int64_t>(whole), (std::vector<int64_t>{-4, -4, -4}));
  });
}

TEST(Elementwise, SumHasTheSameBitsForAnyThreadsInstructionSetAndStride) {
  for (int64_t cols : {1, 15, 4095, 4097, 50000, 131073}) {
    const Tensor x = random_tensor(Dtype::kF32, {3, cols}, 5);
    const Tensor wide = random_tensor(Dtype::kF64, {3, cols}, 5);
    ThreadPool one(1);
    const double reference = sum(Exec{one, Isa::kPortable}, wide);
    const double portable = sum(Exec{one, Isa::kPortable}, x);
    EXPECT_NEAR(portable, reference, 1e-9 * (1 + std::abs(reference)));
    for (int threads : {1, 2, 3}) {
      for_each_isa(
          [&](const Exec& exec) {
            EXPECT_EQ(sum(exec, x), portable) << name_of(exec.isa) << " " << threads;
            Tensor storage;
            EXPECT_EQ(sum(exec, with_padded_rows(exec, x, 3, storage)), portable);
          },
          threads);
    }
  }
}

TEST(Elementwise, SumOfNothingIsZero) {
  for_each_isa([](const Exec& exec) { EXPECT_EQ(sum(exec, zeros(Dtype::kF32, {0, 4})), 0.0); });
}

TEST(Elementwise, RowDot) {
  for (int64_t cols : {1, 2, 31, 64, 257}) {
    compare_with_reference(
        [&](const Exec& exec, Dtype dtype) {
          Tensor out = zeros(dtype, {37, 1});
          row_dot(exec, random_tensor(dtype, {37, cols}, 1), random_tensor(dtype, {37, cols}, 2), out);
          return std::vector<Tensor>{out};
        },
        2e-5, std::to_string(cols));
  }
}

TEST(Elementwise, RefusesWhatDoesNotFit) {
  for_each_isa([](const Exec& exec) {
    const Tensor a = zeros(Dtype::kF32, {2, 3});
    EXPECT_THROW(add(exec, a, zeros(Dtype::kF32, {3, 2}), a), InternalError);
    EXPECT_THROW(add(exec, a, zeros(Dtype::kF64, {2, 3}), a), InternalError);
    try {
      add(exec, a, zeros(Dtype::kF64, {2, 3}), a);
    } catch (const InternalError& error) {
      EXPECT_STREQ(error.what(), "add: operands do not fit: f32[2, 3] f64[2, 3] f32[2, 3]");
    }
  });
}

}  // namespace
}  // namespace cadre::kernels
