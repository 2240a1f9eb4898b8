#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/rng.h"

namespace cadre::kernels {
namespace {

const std::vector<Isa> kIsas = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512};

class GemmTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_available(GetParam())) GTEST_SKIP() << "no " << name_of(GetParam()) << " on this machine";
  }

  std::shared_ptr<Allocator> memory = make_host_allocator();

  Tensor random(Dtype dtype, Shape shape, uint64_t stream) {
    Tensor tensor = Tensor::empty(*memory, dtype, shape);
    Rng rng(7, RngPurpose::kTest, stream);
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      const float value = static_cast<float>(rng.uniform() - 0.5);
      if (dtype == Dtype::kF64) {
        tensor.data<double>()[i] = value;
      } else {
        tensor.data<float>()[i] = value;
      }
    }
    return tensor;
  }
  Tensor offsets(const std::vector<int64_t>& bounds) {
    Tensor tensor = Tensor::empty(*memory, Dtype::kI64, {static_cast<int64_t>(bounds.size())});
    std::copy(bounds.begin(), bounds.end(), tensor.data<int64_t>());
    return tensor;
  }
  RightOperand packed(const Exec& exec, const Tensor& weights, Operand operand) {
    kept_.push_back(Tensor::empty(*memory, weights.dtype(), {packed_elements(exec, weights, operand)}));
    return pack(exec, weights, operand, kept_.back());
  }
  // The three ways for weights to enter a product.
  enum class Form { kTransposed, kPackedAsStored, kAsStored };
  static constexpr Form kForms[] = {Form::kTransposed, Form::kPackedAsStored, Form::kAsStored};
  RightOperand right(const Exec& exec, const Tensor& weights, Form form) {
    kept_.push_back(weights);
    if (form == Form::kAsStored) return as_stored(weights);
    return packed(exec, weights, form == Form::kTransposed ? Operand::kTransposed : Operand::kAsStored);
  }

  static void expect_near(const Tensor& f32, const Tensor& f64, int64_t terms, const std::string& what) {
    ASSERT_EQ(f32.shape(), f64.shape());
    const double tolerance = 1e-7 * static_cast<double>(terms + 2);
    for (int64_t i = 0; i < f32.elements(); ++i) {
      ASSERT_NEAR(f32.data<float>()[i], f64.data<double>()[i], tolerance) << what << " element " << i;
    }
  }

 private:
  std::vector<Tensor> kept_;
};

struct Sizes {
  std::vector<int64_t> bounds;
  int64_t inputs;
  int64_t outputs;
};

const std::vector<Sizes> kSizes = {
    {{0, 1}, 1, 1},
    {{0, 1, 1, 6}, 3, 5},
    {{0, 13, 14, 29}, 17, 31},
    {{0, 0, 47, 47, 90}, 33, 65},
    {{0, 71, 72, 200}, 64, 96},
    {{0, 300}, 37, 129},
    {{0, 5, 601}, 131, 47},
    {{0, 24}, 512, 40},   // rows 2 KiB apart
    {{0, 30}, 1024, 33},  // and 4
};

TEST_P(GemmTest, MatchesReferenceAtRaggedSizes) {
  for (const Sizes& sizes : kSizes) {
    const int64_t groups = static_cast<int64_t>(sizes.bounds.size()) - 1;
    const int64_t rows = sizes.bounds.back();
    const Shape weight_shape{groups, sizes.outputs, sizes.inputs};
    const Tensor bounds = offsets(sizes.bounds);
    ThreadPool one(1);
    const Exec reference{one, GetParam()};
    for (const Form form : kForms) {
      const bool transposed = form == Form::kTransposed;
      const int64_t k = transposed ? sizes.inputs : sizes.outputs;
      const int64_t n = transposed ? sizes.outputs : sizes.inputs;
      for (const Write write : {Write::kOverwrite, Write::kAccumulate}) {
        const Tensor wanted = random(Dtype::kF64, {rows, n}, 3);
        grouped_gemm(reference, random(Dtype::kF64, {rows, k}, 1), bounds,
                     right(reference, random(Dtype::kF64, weight_shape, 2), form), wanted, write);
        for (int threads = 1; threads <= 3; ++threads) {
          ThreadPool pool(threads);
          const Exec exec{pool, GetParam()};
          const Tensor got = random(Dtype::kF32, {rows, n}, 3);
          grouped_gemm(exec, random(Dtype::kF32, {rows, k}, 1), bounds,
                       right(exec, random(Dtype::kF32, weight_shape, 2), form), got, write);
          expect_near(got, wanted, k,
                      "rows " + std::to_string(rows) + " k " + std::to_string(k) + " n " + std::to_string(n));
        }
      }
    }
  }
}

TEST_P(GemmTest, WeightGradientMatchesReferenceAndThreadsAgreeBitForBit) {
  for (const Sizes& sizes : kSizes) {
    const int64_t groups = static_cast<int64_t>(sizes.bounds.size()) - 1;
    const int64_t rows = sizes.bounds.back();
    const Shape weight_shape{groups, sizes.outputs, sizes.inputs};
    const Tensor bounds = offsets(sizes.bounds);
    for (const Write write : {Write::kOverwrite, Write::kAccumulate}) {
      ThreadPool one(1);
      const Exec serial{one, GetParam()};
      const Tensor wanted = random(Dtype::kF64, weight_shape, 3);
      grouped_weight_gradient(serial, random(Dtype::kF64, {rows, sizes.outputs}, 1),
                              random(Dtype::kF64, {rows, sizes.inputs}, 2), bounds, wanted, write);
      Tensor first;
      for (const int threads : {1, 2, 3, 16}) {
        ThreadPool pool(threads);
        const Exec exec{pool, GetParam()};
        const Tensor got = random(Dtype::kF32, weight_shape, 3);
        grouped_weight_gradient(exec, random(Dtype::kF32, {rows, sizes.outputs}, 1),
                                random(Dtype::kF32, {rows, sizes.inputs}, 2), bounds, got, write);
        expect_near(got, wanted, rows, "rows " + std::to_string(rows) + " inputs " + std::to_string(sizes.inputs));
        if (!first) first = got;
        EXPECT_EQ(0, std::memcmp(first.raw(), got.raw(), got.bytes())) << threads << " threads";
      }
    }
  }
}

// The promise that expert parallelism and capacity rest on: a row's bits do not depend on its company.
TEST_P(GemmTest, RowsAloneEqualRowsInBulkBitForBit) {
  constexpr int64_t kRows = 157;
  constexpr int64_t kOutputs = 75;
  ThreadPool one(1);
  const Exec serial{one, GetParam()};
  for (const auto& [inputs, form] : std::vector<std::pair<int64_t, Form>>{
           {61, Form::kTransposed}, {512, Form::kTransposed}, {61, Form::kAsStored}}) {
    const Tensor a = random(Dtype::kF32, {kRows, inputs}, 1);
    const Shape shape = form == Form::kTransposed ? Shape{1, kOutputs, inputs} : Shape{1, inputs, kOutputs};
    const RightOperand b = right(serial, random(Dtype::kF32, shape, 2), form);
    const Tensor bulk = Tensor::empty(*memory, Dtype::kF32, {kRows, kOutputs});
    grouped_gemm(serial, a, {}, b, bulk, Write::kOverwrite);
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      const Exec exec{pool, GetParam()};
      for (const int64_t piece : {1, 2, 5, 16, 40, 157}) {
        const Tensor parts = Tensor::empty(*memory, Dtype::kF32, {kRows, kOutputs});
        for (int64_t row = 0; row < kRows; row += piece) {
          const int64_t end = std::min(kRows, row + piece);
          grouped_gemm(exec, a.slice(row, end), {}, b, parts.slice(row, end), Write::kOverwrite);
        }
        EXPECT_EQ(0, std::memcmp(bulk.raw(), parts.raw(), bulk.bytes())) << threads << " threads, pieces of " << piece;
      }
    }
  }
}

TEST_P(GemmTest, PackingInPassingAndAheadAgreeBitForBit) {
  ThreadPool pool(2);
  const Exec exec{pool, GetParam()};
  for (const auto& [rows, k, n] : std::vector<std::array<int64_t, 3>>{{90, 67, 101}, {3, 5, 7}, {330, 300, 64}}) {
    const Tensor a = random(Dtype::kF32, {rows, k}, 1);
    const Tensor weights = random(Dtype::kF32, {2, k, n}, 2);
    const Tensor bounds = offsets({0, rows / 3, rows});
    const Tensor first = Tensor::empty(*memory, Dtype::kF32, {rows, n});
    const Tensor second = Tensor::empty(*memory, Dtype::kF32, {rows, n});
    grouped_gemm(exec, a, bounds, as_stored(weights), first, Write::kOverwrite);
    grouped_gemm(exec, a, bounds, packed(exec, weights, Operand::kAsStored), second, Write::kOverwrite);
    EXPECT_EQ(0, std::memcmp(first.raw(), second.raw(), first.bytes()));
  }
}

TEST_P(GemmTest, StridedViewsAndUntouchedSurroundings) {
  constexpr int64_t kRows = 19, kInputs = 21, kOutputs = 37;
  ThreadPool pool(2);
  const Exec exec{pool, GetParam()};
  const Tensor wide = random(Dtype::kF32, {kRows, kInputs + 6}, 1);
  const Tensor weights = random(Dtype::kF32, {2, kOutputs, kInputs}, 2);
  const Tensor bounds = offsets({0, 7, 15});  // rows 15 .. 18 belong to no group
  const Tensor out = Tensor::empty(*memory, Dtype::kF32, {kRows, kOutputs + 9});
  std::fill_n(out.data<float>(), out.elements(), 123.0f);
  grouped_gemm(exec, wide.view().columns(4, 4 + kInputs), bounds, packed(exec, weights, Operand::kTransposed),
               out.view().columns(5, 5 + kOutputs), Write::kOverwrite);
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kOutputs + 9; ++j) {
      double wanted = 123.0;
      if (i < 15 && j >= 5 && j < 5 + kOutputs) {
        wanted = 0;
        for (int64_t p = 0; p < kInputs; ++p) {
          wanted += static_cast<double>(wide.data<float>()[i * (kInputs + 6) + 4 + p]) *
                    weights.data<float>()[((i < 7 ? 0 : kOutputs) + j - 5) * kInputs + p];
        }
      }
      ASSERT_NEAR(out.data<float>()[i * (kOutputs + 9) + j], wanted, 1e-5) << i << ", " << j;
    }
  }
}

TEST_P(GemmTest, PackingKeepsEveryElement) {
  ThreadPool pool(3);
  const Exec exec{pool, GetParam()};
  const int64_t width = packed_elements(exec, random(Dtype::kF32, {1, 1}, 1), Operand::kTransposed);
  for (const auto& [r, c] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {33, 17}, {64, 64}, {70, 35}}) {
    const Tensor weights = random(Dtype::kF32, {2, r, c}, 1);
    for (const Operand operand : {Operand::kTransposed, Operand::kAsStored}) {
      const RightOperand right = packed(exec, weights, operand);
      const int64_t panels = (right.n + width - 1) / width;
      for (int64_t i = 0; i < right.values.shape.elements(); ++i) {
        const int64_t group = i / (panels * right.k * width);
        const int64_t line = i / width % right.k;
        const int64_t column = i / (right.k * width) % panels * width + i % width;
        const int64_t at = operand == Operand::kTransposed ? column * c + line : line * c + column;
        const float wanted = column < right.n ? weights.data<float>()[group * r * c + at] : 0.0f;
        ASSERT_EQ(right.values.as<float>()[i], wanted) << r << " x " << c << " element " << i;
      }
    }
  }
}

TEST_P(GemmTest, ReferenceMatchesHandComputedValues) {
  ThreadPool pool(1);
  const Exec exec{pool, GetParam()};
  const Tensor weights = Tensor::empty(*memory, Dtype::kF64, {1, 2, 2});
  const Tensor x = Tensor::empty(*memory, Dtype::kF64, {1, 2});
  const Tensor y = Tensor::empty(*memory, Dtype::kF64, {1, 2});
  const double w[] = {1, 2, 3, 4};
  std::copy(w, w + 4, weights.data<double>());
  x.data<double>()[0] = 5;
  x.data<double>()[1] = 6;
  grouped_gemm(exec, x, {}, packed(exec, weights, Operand::kTransposed), y, Write::kOverwrite);
  EXPECT_EQ(y.data<double>()[0], 17);
  EXPECT_EQ(y.data<double>()[1], 39);
  grouped_gemm(exec, x, {}, as_stored(weights), y, Write::kAccumulate);
  EXPECT_EQ(y.data<double>()[0], 17 + 23);
  EXPECT_EQ(y.data<double>()[1], 39 + 34);
}

TEST_P(GemmTest, RefusesShapesThatDoNotFit) {
  ThreadPool pool(1);
  const Exec exec{pool, GetParam()};
  const Tensor weights = random(Dtype::kF32, {2, 4, 3}, 1);
  const RightOperand right = packed(exec, weights, Operand::kTransposed);
  const Tensor x = random(Dtype::kF32, {5, 3}, 2);
  const Tensor y = random(Dtype::kF32, {5, 4}, 3);
  EXPECT_THROW(grouped_gemm(exec, y, offsets({0, 2, 5}), right, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(grouped_gemm(exec, x, offsets({0, 2}), right, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(grouped_gemm(exec, x, offsets({0, 3, 2}), right, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(grouped_gemm(exec, x, offsets({0, 3, 6}), right, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(grouped_gemm(exec, x, {}, right, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(
      grouped_weight_gradient(exec, y, x, offsets({0, 2, 5}), random(Dtype::kF32, {2, 3, 4}, 1), Write::kOverwrite),
      InternalError);
  EXPECT_THROW(pack(exec, weights, Operand::kAsStored, random(Dtype::kF32, {3}, 1)), InternalError);
}

INSTANTIATE_TEST_SUITE_P(AllIsas, GemmTest, testing::ValuesIn(kIsas),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace cadre::kernels
