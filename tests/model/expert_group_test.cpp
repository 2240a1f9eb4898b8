// Experts of different sizes and activations in one group, against a group of its own for each expert.

#include <gtest/gtest.h>

#include <map>

#include "core/rng.h"
#include "model/feed_forward.h"
#include "tests/autograd/poison_allocator.h"

namespace cadre::model {
namespace {

using autograd::BackwardPart;
using autograd::Variable;
using kernels::Activation;

constexpr int64_t kHidden = 19;
const std::vector<int64_t> kBounds = {0, 5, 5, 24, 37, 60, 61};  // of each expert's rows; expert 1 has none

std::vector<ExpertSpec> three_kinds() {
  std::vector<ExpertSpec> experts = {
      {"e0", 0, 7, Activation::kSwiGlu, 0.4, 0.3, "0"}, {"e1", 1, 7, Activation::kSwiGlu, 0.4, 0.3, "0"},
      {"e2", 2, 23, Activation::kGelu, 0.4, 0.3, "1"},  {"e3", 3, 5, Activation::kSwiGlu, 0.2, 0.3, "2"},
      {"e4", 4, 7, Activation::kSwiGlu, 0.4, 0.3, "3"}, {"e5", 5, 7, Activation::kSwiGlu, 0.4, 0.3, "3"}};
  return experts;
}

struct Result {
  std::vector<char> y, dx;
  std::map<std::string, std::vector<char>> gradients;  // by segment
  bool operator==(const Result&) const = default;
};

std::vector<char> bytes_of(const Tensor& tensor) {
  return {static_cast<const char*>(tensor.raw()), static_cast<const char*>(tensor.raw()) + tensor.bytes()};
}

void append(std::vector<char>& to, const std::vector<char>& more) { to.insert(to.end(), more.begin(), more.end()); }

struct Way {
  std::vector<int64_t> cuts = {};  // experts before which a run ends
  RecomputeSettings recompute{};
  BackwardPart part = BackwardPart::kAll;
  int micro_batches = 1;
};

class ExpertGroupTest : public ::testing::TestWithParam<Dtype> {
 protected:
  Tensor random(Shape shape, uint64_t stream) {
    Tensor tensor = Tensor::empty(allocator_, context_.dtype, shape);
    Rng rng(5, RngPurpose::kTest, stream);
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      if (context_.dtype == Dtype::kF64) {
        tensor.data<double>()[i] = rng.normal();
      } else {
        tensor.data<float>()[i] = static_cast<float>(rng.normal());
      }
    }
    return tensor;
  }

  // Rows of experts [first, end) among those that begin with `base`.
  Variable offsets_of(int64_t base, int64_t first, int64_t end) {
    Tensor offsets = Tensor::empty(allocator_, Dtype::kI64, Shape{end - first + 1});
    for (int64_t i = first; i <= end; ++i) offsets.data<int64_t>()[i - first] = row(base + i) - row(base + first);
    return Variable::leaf(offsets);
  }
  static int64_t row(int64_t expert) { return kBounds[static_cast<size_t>(expert)]; }

  // Forward and backward of local experts [first, end).
  void run(Result& result, const ExpertGroup& group, const Way& way, int64_t base, int64_t first, int64_t end) {
    const Shape all{kBounds.back(), kHidden};
    const int64_t from = row(base + first), to = row(base + end);
    autograd::Tape tape(context_);
    const Variable x = Variable::leaf(random(all, 1).slice(from, to), true);
    const Variable y = group.forward(tape, way.recompute, {x, offsets_of(base, first, end), {first, end - first}});
    append(result.y, bytes_of(y.tensor()));
    tape.discard_recomputable();
    tape.backward({{y, random(all, 2).slice(from, to)}}, way.part);
    if (way.part == BackwardPart::kInputsOnly) tape.backward_parameters();
    append(result.dx, bytes_of(x.gradient()));
  }

  // A group of `specs`, the first of which is expert `base`; adds to the result.
  void add(Result& result, const std::vector<ExpertSpec>& specs, int64_t base, const Way& way) {
    autograd::ParameterStore store;
    const ExpertGroup group(store, "g", specs, kHidden);
    store.materialise(context_, 3);
    std::vector<int64_t> cuts = way.cuts;
    cuts.push_back(static_cast<int64_t>(specs.size()));
    for (int pass = 0; pass < way.micro_batches; ++pass) {
      int64_t first = 0;
      for (const int64_t end : cuts) {
        run(result, group, way, base, first, end);
        first = end;
      }
    }
    store.zero_untouched_gradients();
    for (const auto& parameter : store.parameters()) {
      for (const autograd::Segment& segment : parameter->segments) {
        result.gradients[segment.name] = bytes_of(parameter->gradient.flat_slice(segment.offset, segment.shape));
      }
    }
  }

  Result together(const Way& way) {
    Result result;
    add(result, three_kinds(), 0, way);
    return result;
  }
  Result one_by_one(const Way& way) {
    Result result;
    int64_t base = 0;
    for (const ExpertSpec& spec : three_kinds()) add(result, {spec}, base++, way);
    return result;
  }

  autograd::testing::PoisonAllocator allocator_;
  ThreadPool threads_{2};
  autograd::Context context_{{threads_, kernels::best_isa()}, allocator_, GetParam()};
};

TEST_P(ExpertGroupTest, DifferentExpertsEqualAGroupOfEachBitForBit) {
  EXPECT_EQ(together({}), one_by_one({}));
  RecomputeSettings selective;
  selective.mode = RecomputeMode::kSelective;
  for (const BackwardPart part : {BackwardPart::kAll, BackwardPart::kInputsOnly}) {
    EXPECT_EQ(together({.recompute = selective, .part = part}), one_by_one({}));
  }
}

// One run of experts after the other, each beginning and ending within stacks or at their ends.
TEST_P(ExpertGroupTest, RunsOfExpertsMayCutThroughStacks) {
  const Result whole = together({});
  const auto experts = static_cast<int64_t>(three_kinds().size());
  for (int64_t first = 1; first < experts; ++first) {
    EXPECT_EQ(together({.cuts = {first}}), whole) << first;
    for (int64_t second = first + 1; second < experts; ++second) {
      EXPECT_EQ(together({.cuts = {first, second}}), whole) << first << ", " << second;
    }
  }
}

TEST_P(ExpertGroupTest, MicroBatchesAddUp) {
  const Way twice{.micro_batches = 2};
  EXPECT_EQ(together(twice).gradients, one_by_one(twice).gradients);
}

TEST_P(ExpertGroupTest, NeighboursOfOneKindShareAStack) {
  autograd::ParameterStore store;
  const ExpertGroup group(store, "g", three_kinds(), kHidden, 3);
  std::map<std::string, Shape> shapes;
  for (const auto& parameter : store.parameters()) {
    shapes[parameter->name] = parameter->shape;
    EXPECT_EQ(parameter->lanes, 3);
  }
  const std::map<std::string, Shape> wanted = {{"g.0.up", {2, 14, kHidden}}, {"g.0.down", {2, kHidden, 7}},
                                               {"g.1.up", {1, 23, kHidden}}, {"g.1.down", {1, kHidden, 23}},
                                               {"g.2.up", {1, 10, kHidden}}, {"g.2.down", {1, kHidden, 5}},
                                               {"g.3.up", {2, 14, kHidden}}, {"g.3.down", {2, kHidden, 7}}};
  EXPECT_EQ(shapes, wanted);
  EXPECT_EQ(store.find("g.2.up")->segments[1].name, "e3.w3");
  EXPECT_EQ(store.find("g.3.down")->segments[1].expert, 5);
  EXPECT_EQ(store.find("g.2.up")->init_std, 0.2);
  std::vector<ExpertSpec> alike(2, three_kinds()[0]);
  alike[0].stack = alike[1].stack = "";
  const ExpertGroup plain(store, "plain", alike, kHidden);
  EXPECT_NE(store.find("plain.up"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Types, ExpertGroupTest, ::testing::Values(Dtype::kF32, Dtype::kF64),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace cadre::model
