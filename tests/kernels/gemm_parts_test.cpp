// Products of different sizes that share a run, against the same products one by one.

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "kernels/gemm.h"

namespace cadre::kernels {
namespace {

// Groups of one size; their rows follow those of the part before.
struct PartSizes {
  std::vector<int64_t> rows;  // of each group
  int64_t k, n;
};

const std::vector<std::vector<PartSizes>> kLayers = {
    {{{3, 0, 5}, 7, 11}, {{4}, 19, 35}},
    {{{0, 0}, 5, 3}, {{17, 1, 30}, 64, 96}, {{0}, 33, 65}, {{2, 40}, 128, 31}},
    {{{130}, 37, 129}, {{1}, 200, 5}, {{77, 60}, 96, 64}},
    {{{0}, 5, 3}, {{0, 0}, 9, 4}},
};
constexpr int64_t kRowsBefore = 2, kRowsBehind = 3, kSpareColumns = 5;

class GemmPartsTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_available(GetParam())) GTEST_SKIP() << "no " << name_of(GetParam()) << " on this machine";
  }

  Tensor random(Shape shape, uint64_t stream) {
    Tensor tensor = Tensor::empty(*memory_, dtype_, shape);
    Rng rng(9, RngPurpose::kTest, stream);
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      const double value = rng.uniform() - 0.5;
      if (dtype_ == Dtype::kF64) {
        tensor.data<double>()[i] = value;
      } else {
        tensor.data<float>()[i] = static_cast<float>(value);
      }
    }
    return tensor;
  }

  // The operands of a layer: rows [before | parts | behind], columns of the widest part and some more.
  struct Layer {
    Tensor offsets, narrow, wide;           // [rows, k + spare], [rows, n + spare]
    std::vector<Tensor> forward, gradient;  // weights [groups, n, k]
    std::vector<int64_t> first;             // group of each part
  };
  Layer layer_of(const std::vector<PartSizes>& sizes) {
    Layer layer;
    std::vector<int64_t> bounds = {kRowsBefore};
    int64_t k = 0, n = 0;
    for (const PartSizes& part : sizes) {
      layer.first.push_back(static_cast<int64_t>(bounds.size()) - 1);
      for (const int64_t rows : part.rows) bounds.push_back(bounds.back() + rows);
      const Shape shape{static_cast<int64_t>(part.rows.size()), part.n, part.k};
      layer.forward.push_back(random(shape, 10 + layer.forward.size()));
      layer.gradient.push_back(random(shape, 20 + layer.gradient.size()));
      k = std::max(k, part.k);
      n = std::max(n, part.n);
    }
    layer.offsets = Tensor::empty(*memory_, Dtype::kI64, {static_cast<int64_t>(bounds.size())});
    std::copy(bounds.begin(), bounds.end(), layer.offsets.data<int64_t>());
    const int64_t rows = bounds.back() + kRowsBehind;
    layer.narrow = random({rows, k + kSpareColumns}, 1);
    layer.wide = random({rows, n + kSpareColumns}, 2);
    return layer;
  }
  static TensorView offsets_of(const Layer& layer, size_t part, const PartSizes& sizes) {
    const int64_t first = layer.first[part];
    return layer.offsets.view().columns(first, first + static_cast<int64_t>(sizes.rows.size()) + 1);
  }

  // y = x W^T, and dx = dy W; every other part adds to what is there.
  std::vector<GemmPart> products(const Exec& exec, const std::vector<PartSizes>& sizes, const Layer& layer,
                                 bool forward) {
    std::vector<GemmPart> parts;
    for (size_t i = 0; i < sizes.size(); ++i) {
      RightOperand right = as_stored(layer.forward[i]);
      if (forward) {
        kept_.push_back(
            Tensor::empty(*memory_, dtype_, {packed_elements(exec, layer.forward[i], Operand::kTransposed)}));
        right = pack(exec, layer.forward[i], Operand::kTransposed, kept_.back());
      }
      const TensorView narrow = layer.narrow.view().columns(1, 1 + sizes[i].k);
      const TensorView wide = layer.wide.view().columns(2, 2 + sizes[i].n);
      parts.push_back({forward ? narrow : wide, offsets_of(layer, i, sizes[i]), right, forward ? wide : narrow,
                       i % 2 == 0 ? Write::kOverwrite : Write::kAccumulate});
    }
    return parts;
  }
  std::vector<WeightGradientPart> gradients(const std::vector<PartSizes>& sizes, const Layer& layer) {
    std::vector<WeightGradientPart> parts;
    for (size_t i = 0; i < sizes.size(); ++i) {
      parts.push_back({layer.wide.view().columns(2, 2 + sizes[i].n), layer.narrow.view().columns(1, 1 + sizes[i].k),
                       offsets_of(layer, i, sizes[i]), layer.gradient[i],
                       i % 2 == 0 ? Write::kAccumulate : Write::kOverwrite});
    }
    return parts;
  }

  static void expect_same(const Tensor& got, const Tensor& wanted, const std::string& what) {
    EXPECT_EQ(0, std::memcmp(got.raw(), wanted.raw(), wanted.bytes())) << what;
  }

  // f(dtype, exec) on every number of threads.
  template <class F>
  void each_way(F&& f) {
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
      dtype_ = dtype;
      for (const int threads : {1, 2, 3, 16}) {
        ThreadPool pool(threads);
        f(Exec{pool, GetParam()}, std::string(name_of(dtype)) + ", " + std::to_string(threads) + " threads");
      }
    }
  }

  std::shared_ptr<Allocator> memory_ = make_host_allocator();
  Dtype dtype_ = Dtype::kF32;
  std::vector<Tensor> kept_;
};

// The surroundings are random numbers: that they stay is part of the comparison.
TEST_P(GemmPartsTest, ProductsTogetherEqualThoseAloneBitForBit) {
  each_way([&](const Exec& exec, const std::string& what) {
    for (const auto& sizes : kLayers) {
      for (const bool forward : {true, false}) {
        const Layer together = layer_of(sizes), alone = layer_of(sizes);
        grouped_gemm(exec, products(exec, sizes, together, forward));
        for (const GemmPart& part : products(exec, sizes, alone, forward)) {
          grouped_gemm(exec, part.a, part.offsets, part.b, part.out, part.write);
        }
        expect_same(together.wide, alone.wide, what);
        expect_same(together.narrow, alone.narrow, what);
      }
    }
  });
}

TEST_P(GemmPartsTest, WeightGradientsTogetherEqualThoseAloneBitForBit) {
  each_way([&](const Exec& exec, const std::string& what) {
    for (const auto& sizes : kLayers) {
      const Layer together = layer_of(sizes), alone = layer_of(sizes);
      grouped_weight_gradient(exec, gradients(sizes, together));
      for (const auto& [dy, x, offsets, dw, write] : gradients(sizes, alone)) {
        grouped_weight_gradient(exec, dy, x, offsets, dw, write);
      }
      for (size_t i = 0; i < sizes.size(); ++i) expect_same(together.gradient[i], alone.gradient[i], what);
    }
  });
}

// Rows outside the groups and columns outside the part keep what they had, also when a part's first row is not row 0.
TEST_P(GemmPartsTest, OnlyThePartsOwnElementsAreWritten) {
  each_way([&](const Exec& exec, const std::string& what) {
    const std::vector<PartSizes>& sizes = kLayers[1];
    const Layer layer = layer_of(sizes);
    std::memset(layer.wide.raw(), 0xff, layer.wide.bytes());
    std::vector<GemmPart> parts = products(exec, sizes, layer, true);
    for (GemmPart& part : parts) part.write = Write::kOverwrite;
    grouped_gemm(exec, parts);
    const int64_t* bounds = layer.offsets.data<int64_t>();
    const int64_t columns = layer.wide.shape()[1], last = layer.offsets.elements() - 1;
    for (int64_t i = 0; i < layer.wide.elements(); ++i) {
      const int64_t row = i / columns, column = i % columns - 2;
      bool owned = false;
      for (size_t p = 0; p < sizes.size(); ++p) {
        const int64_t end = p + 1 < sizes.size() ? layer.first[p + 1] : last;
        owned = owned || (row >= bounds[layer.first[p]] && row < bounds[end] && column >= 0 && column < sizes[p].n);
      }
      const double value = dtype_ == Dtype::kF64 ? layer.wide.data<double>()[i] : layer.wide.data<float>()[i];
      ASSERT_EQ(value == value, owned) << what << " row " << row << " column " << column;
    }
  });
}

TEST_P(GemmPartsTest, RefusesAnyPartThatDoesNotFitAndComputesNothingWhenDry) {
  ThreadPool pool(2);
  const std::vector<PartSizes>& sizes = kLayers[0];
  for (const bool dry : {false, true}) {
    const Exec exec{pool, GetParam(), dry};
    const Layer layer = layer_of(sizes), before = layer_of(sizes);
    std::vector<GemmPart> parts = products(exec, sizes, layer, true);
    std::vector<WeightGradientPart> gradient = gradients(sizes, layer);
    if (dry) {
      grouped_gemm(exec, parts);
      grouped_weight_gradient(exec, gradient);
    }
    parts[1].offsets = layer.offsets;
    gradient[1].x = layer.narrow;
    EXPECT_THROW(grouped_gemm(exec, parts), InternalError);
    EXPECT_THROW(grouped_weight_gradient(exec, gradient), InternalError);
    expect_same(layer.wide, before.wide, "rows");
    expect_same(layer.gradient[0], before.gradient[0], "gradient");
  }
}

INSTANTIATE_TEST_SUITE_P(AllIsas, GemmPartsTest, testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace cadre::kernels
