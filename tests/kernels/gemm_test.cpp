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
  PackedMatrix pack(const Exec& exec, TensorView weights, Operand operand) {
    const bool transposed = operand == Operand::kTransposed;
    const int64_t groups = weights.shape.rank() == 3 ? weights.shape[0] : 1;
    const int64_t elements = packed_elements(exec, weights.dtype, groups, weights.shape[transposed ? -1 : -2],
                                             weights.shape[transposed ? -2 : -1]);
    packed_.push_back(Tensor::empty(*memory, weights.dtype, {elements}));
    return pack_matrix(exec, weights, operand, packed_.back());
  }

  static void expect_near(const Tensor& f32, const Tensor& f64, int64_t terms, const std::string& what) {
    ASSERT_EQ(f32.shape(), f64.shape());
    const double tolerance = 1e-7 * static_cast<double>(terms + 2);
    for (int64_t i = 0; i < f32.elements(); ++i) {
      ASSERT_NEAR(f32.data<float>()[i], f64.data<double>()[i], tolerance) << what << " element " << i;
    }
  }

 private:
  std::vector<Tensor> packed_;
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
    for (const Operand operand : {Operand::kTransposed, Operand::kAsStored}) {
      const int64_t k = operand == Operand::kTransposed ? sizes.inputs : sizes.outputs;
      const int64_t n = operand == Operand::kTransposed ? sizes.outputs : sizes.inputs;
      for (const Write write : {Write::kOverwrite, Write::kAccumulate}) {
        const Tensor wanted = random(Dtype::kF64, {rows, n}, 3);
        grouped_gemm(reference, random(Dtype::kF64, {rows, k}, 1), bounds,
                     pack(reference, random(Dtype::kF64, weight_shape, 2), operand), wanted, write);
        for (int threads = 1; threads <= 3; ++threads) {
          ThreadPool pool(threads);
          const Exec exec{pool, GetParam()};
          const Tensor got = random(Dtype::kF32, {rows, n}, 3);
          grouped_gemm(exec, random(Dtype::kF32, {rows, k}, 1), bounds,
                       pack(exec, random(Dtype::kF32, weight_shape, 2), operand), got, write);
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
  for (const int64_t inputs : {61, 512}) {
    const Tensor a = random(Dtype::kF32, {kRows, inputs}, 1);
    const Tensor weights = random(Dtype::kF32, {1, kOutputs, inputs}, 2);
    ThreadPool one(1);
    const Exec serial{one, GetParam()};
    const PackedMatrix packed = pack(serial, weights, Operand::kTransposed);
    const Tensor bulk = Tensor::empty(*memory, Dtype::kF32, {kRows, kOutputs});
    grouped_gemm(serial, a, {}, packed, bulk, Write::kOverwrite);
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      const Exec exec{pool, GetParam()};
      for (const int64_t piece : {1, 2, 5, 16, 40, 157}) {
        const Tensor parts = Tensor::empty(*memory, Dtype::kF32, {kRows, kOutputs});
        for (int64_t row = 0; row < kRows; row += piece) {
          const int64_t end = std::min(kRows, row + piece);
          grouped_gemm(exec, a.slice(row, end), {}, packed, parts.slice(row, end), Write::kOverwrite);
        }
        EXPECT_EQ(0, std::memcmp(bulk.raw(), parts.raw(), bulk.bytes())) << threads << " threads, pieces of " << piece;
      }
    }
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
  grouped_gemm(exec, wide.view().columns(4, 4 + kInputs), bounds, pack(exec, weights, Operand::kTransposed),
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
  const int64_t width = packed_elements(exec, Dtype::kF32, 1, 1, 1);
  for (const auto& [r, c] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {33, 17}, {64, 64}, {70, 35}}) {
    const Tensor weights = random(Dtype::kF32, {2, r, c}, 1);
    for (const Operand operand : {Operand::kTransposed, Operand::kAsStored}) {
      const PackedMatrix packed = pack(exec, weights, operand);
      const int64_t panels = (packed.n + width - 1) / width;
      for (int64_t i = 0; i < packed.storage.shape.elements(); ++i) {
        const int64_t group = i / (panels * packed.k * width);
        const int64_t line = i / width % packed.k;
        const int64_t column = i / (packed.k * width) % panels * width + i % width;
        const int64_t at = operand == Operand::kTransposed ? column * c + line : line * c + column;
        const float wanted = column < packed.n ? weights.data<float>()[group * r * c + at] : 0.0f;
        ASSERT_EQ(packed.storage.as<float>()[i], wanted) << r << " x " << c << " element " << i;
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
  grouped_gemm(exec, x, {}, pack(exec, weights, Operand::kTransposed), y, Write::kOverwrite);
  EXPECT_EQ(y.data<double>()[0], 17);
  EXPECT_EQ(y.data<double>()[1], 39);
  grouped_gemm(exec, x, {}, pack(exec, weights, Operand::kAsStored), y, Write::kAccumulate);
  EXPECT_EQ(y.data<double>()[0], 17 + 23);
  EXPECT_EQ(y.data<double>()[1], 39 + 34);
}

TEST_P(GemmTest, RefusesShapesThatDoNotFit) {
  ThreadPool pool(1);
  const Exec exec{pool, GetParam()};
  const Tensor weights = random(Dtype::kF32, {2, 4, 3}, 1);
  const PackedMatrix packed = pack(exec, weights, Operand::kTransposed);
  const Tensor x = random(Dtype::kF32, {5, 3}, 2);
  const Tensor y = random(Dtype::kF32, {5, 4}, 3);
  EXPECT_THROW(grouped_gemm(exec, y, offsets({0, 2, 5}), packed, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(grouped_gemm(exec, x, offsets({0, 2}), packed, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(grouped_gemm(exec, x, offsets({0, 3, 2}), packed, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(grouped_gemm(exec, x, offsets({0, 3, 6}), packed, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(grouped_gemm(exec, x, {}, packed, y, Write::kOverwrite), InternalError);
  EXPECT_THROW(
      grouped_weight_gradient(exec, y, x, offsets({0, 2, 5}), random(Dtype::kF32, {2, 3, 4}, 1), Write::kOverwrite),
      InternalError);
  EXPECT_THROW(pack_matrix(exec, weights, Operand::kAsStored, random(Dtype::kF32, {3}, 1)), InternalError);
}

INSTANTIATE_TEST_SUITE_P(AllIsas, GemmTest, testing::ValuesIn(kIsas),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace cadre::kernels
