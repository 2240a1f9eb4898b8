#include "autograd/gradient_tree.h"

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/ops/linear.h"
#include "autograd/tape.h"
#include "core/rng.h"
#include "kernels/elementwise.h"
#include "tests/autograd/poison_allocator.h"

namespace cadre::autograd {
namespace {

class GradientTreeTest : public ::testing::Test {
 protected:
  static std::vector<float> values(const Tensor& tensor) {
    return {tensor.data<float>(), tensor.data<float>() + tensor.elements()};
  }

  // Numbers whose sum depends on the order.
  static float leaf(int64_t i) {
    Rng rng(4, RngPurpose::kTest, static_cast<uint64_t>(i));
    return static_cast<float>(rng.normal() * std::exp(4 * rng.normal()));
  }

  // Adds values[lane] to every element of the group.
  static void contribute(Parameter& parameter, int64_t group, int use, const std::vector<float>& values) {
    const Parameter::Target target = parameter.claim(group, 1, use);
    const auto lanes = static_cast<int64_t>(values.size());
    for (int64_t i = 0; i < target.gradient.elements(); ++i) {
      float& x = target.gradient.data<float>()[i];
      const float value = values[static_cast<size_t>(i / (target.gradient.elements() / lanes))];
      x = target.empty ? value : x + value;
    }
  }

  Variable bounds(const std::vector<int64_t>& rows) {
    Tensor tensor = Tensor::empty(allocator_, Dtype::kI64, Shape{static_cast<int64_t>(rows.size())});
    std::copy(rows.begin(), rows.end(), tensor.data<int64_t>());
    return Variable::leaf(tensor);
  }
  Tensor random(Shape shape, uint64_t stream) {
    Rng rng(3, RngPurpose::kTest, stream);
    Tensor tensor = Tensor::empty(allocator_, Dtype::kF32, shape);
    for (int64_t i = 0; i < tensor.elements(); ++i) tensor.data<float>()[i] = static_cast<float>(rng.normal());
    return tensor;
  }

  testing::PoisonAllocator allocator_;
  ThreadPool threads_{1};
  Context context_{{threads_, kernels::best_isa()}, allocator_};
};

float tree_sum(std::vector<float> leaves) {
  while (leaves.size() > 1) {
    std::vector<float> sums;
    for (size_t i = 0; i < leaves.size(); i += 2) {
      sums.push_back(i + 1 < leaves.size() ? leaves[i] + leaves[i + 1] : leaves[i]);
    }
    leaves = std::move(sums);
  }
  return leaves.front();
}

TEST_F(GradientTreeTest, AnyNumberOfMicroBatchesIsSummedInTheBinaryTree) {
  ParameterStore store;
  Parameter& p = store.declare("p", {3}, 1, true);
  store.materialise(context_, 1);
  GradientTrees trees(context_, store);
  for (int64_t count = 1; count <= 17; ++count) {
    trees.start_step();
    std::vector<float> leaves;
    for (int64_t i = 0; i < count; ++i) {
      contribute(p, 0, 0, {leaf(i)});
      trees.complete(p, i + 1 == count);
      leaves.push_back(leaf(i));
    }
    EXPECT_EQ(values(p.gradient), std::vector<float>(3, tree_sum(leaves))) << count;
  }
}

TEST_F(GradientTreeTest, LanesAreSummedApartAndThenTogether) {
  ParameterStore store;
  Parameter& p = store.declare("p", {2, 1, 3}, 1, true);
  p.lanes = 3;
  store.materialise(context_, 1);
  GradientTrees trees(context_, store);
  constexpr int64_t kCount = 5;
  std::vector<std::vector<float>> lanes(3);
  for (int64_t i = 0; i < kCount; ++i) {
    std::vector<float> leaves;
    for (size_t lane = 0; lane < 3; ++lane) {
      leaves.push_back(leaf(3 * i + static_cast<int64_t>(lane)));
      lanes[lane].push_back(leaves.back());
    }
    contribute(p, 1, 0, leaves);
    trees.complete(p, i + 1 == kCount);
  }
  std::vector<float> sums;
  for (const auto& lane : lanes) sums.push_back(tree_sum(lane));
  EXPECT_EQ(values(p.gradient.slice(0, 1)), std::vector<float>(3, 0)) << "a group that nothing reached";
  EXPECT_EQ(values(p.gradient.slice(1, 2)), std::vector<float>(3, tree_sum(sums)));
}

// As with stages of one rank that use the same parameter: in any order between them, each in order of micro-batches.
TEST_F(GradientTreeTest, UsesAreSummedApart) {
  ParameterStore store;
  Parameter& p = store.declare("p", {3}, 1, true);
  p.uses = 2;
  store.materialise(context_, 1);
  GradientTrees trees(context_, store);
  std::vector<float> first, second;
  const auto add = [&](int use, std::vector<float>& leaves, bool last = false) {
    leaves.push_back(leaf(10 * use + static_cast<int64_t>(leaves.size())));
    contribute(p, 0, use, {leaves.back()});
    trees.complete(p, last);
  };
  add(1, second);
  add(1, second);
  add(0, first);
  add(1, second);
  add(0, first);
  add(0, first, true);
  EXPECT_EQ(values(p.gradient), std::vector<float>(3, tree_sum(first)));
  ASSERT_EQ(trees.other_uses().size(), 1u);
  EXPECT_EQ(values(trees.other_uses()[0].gradient), std::vector<float>(3, tree_sum(second)));
  for (const GradientTrees::Use& use : trees.other_uses()) trees.join(use);
  EXPECT_EQ(values(p.gradient), std::vector<float>(3, tree_sum(first) + tree_sum(second)));
}

TEST_F(GradientTreeTest, BuffersGrowWithTheLogarithmAndAreReused) {
  ParameterStore store;
  Parameter& p = store.declare("p", {1024}, 1, true);
  store.materialise(context_, 1);
  GradientTrees trees(context_, store);
  const size_t before = allocator_.stats().in_use;
  for (int step = 0; step < 3; ++step) {
    trees.start_step();
    for (int64_t i = 0; i < 16; ++i) {
      contribute(p, 0, 0, {1});
      trees.complete(p, i == 15);
    }
    EXPECT_LE(allocator_.stats().in_use - before, 4 * p.gradient.bytes() + 1024) << step;
    if (step == 0) continue;
    EXPECT_GE(allocator_.stats().in_use - before, 4 * p.gradient.bytes());
  }
}

TEST_F(GradientTreeTest, GroupedLinearWritesItsLanes) {
  ParameterStore store;
  Parameter& w = store.declare("w", {2, 3, 4}, 1, true);
  w.lanes = 2;
  store.materialise(context_, 1);
  const Tensor x = random({9, 4}, 1), dy = random({9, 3}, 2);
  const auto backward = [&](const std::vector<int64_t>& cells) {
    Tape tape(context_);
    const Variable y =
        tape.apply<GroupedLinear>({Variable::leaf(x), Variable::of(w), bounds({0, 5, 9}), bounds(cells)}, 2);
    tape.backward({{y, dy}});
  };
  const auto lane_alone = [&](int64_t begin, int64_t end) {
    ParameterStore alone;
    Parameter& v = alone.declare("w", {3, 4}, 1, true);
    alone.materialise(context_, 1);
    Tape tape(context_);
    const Variable y = tape.apply<GroupedLinear>({Variable::leaf(x.slice(begin, end)), Variable::of(v), Variable()});
    tape.backward({{y, dy.slice(begin, end)}});
    return values(v.gradient);
  };
  std::vector<float> wanted = lane_alone(0, 2);
  const std::vector<float> other = lane_alone(2, 5);
  for (size_t i = 0; i < wanted.size(); ++i) wanted[i] += other[i];
  GradientTrees trees(context_, store);
  backward({0, 2, 5, 5, 9});
  trees.complete(w, true);
  EXPECT_EQ(values(w.gradient.slice(0, 1)), wanted);
  EXPECT_EQ(values(w.gradient.slice(1, 2)), lane_alone(5, 9));
}

// A stack of groups with one column less: its lanes are those of a stack alone.
TEST_F(GradientTreeTest, SeveralStacksWriteTheirLanes) {
  ParameterStore store;
  Parameter& wide = store.declare("wide", {1, 3, 4}, 1, true);
  Parameter& narrow = store.declare("narrow", {2, 2, 3}, 1, true);
  wide.lanes = narrow.lanes = 2;
  store.materialise(context_, 1);
  const Tensor x = random({12, 4}, 1), dy = random({12, 3}, 2);
  // Rows of the narrow groups, cut to their columns.
  const auto cut = [&](const Tensor& rows, int64_t columns) {
    const Tensor part = Tensor::empty(allocator_, Dtype::kF32, {7, columns});
    kernels::copy(context_.exec, rows.slice(5, 12).view().columns(0, columns), part);
    return part;
  };
  const auto gradients = [&](Parameter& weight, auto&& apply, const Tensor& gradient) {
    GradientTrees trees(context_, store);
    Tape tape(context_);
    tape.backward({{apply(tape), gradient}});
    trees.complete(weight, true);
    return values(weight.gradient);
  };
  const auto together = [&](Tape& tape) {
    return tape.apply<GroupedLinear>({Variable::leaf(x), Variable::of(wide), bounds({0, 5, 8, 12}),
                                      bounds({0, 2, 5, 5, 8, 9, 12}), Variable::of(narrow)},
                                     2, size_t{2});
  };
  const auto wide_alone = [&](Tape& tape) {
    return tape.apply<GroupedLinear>(
        {Variable::leaf(x.slice(0, 5)), Variable::of(wide), bounds({0, 5}), bounds({0, 2, 5})}, 2);
  };
  const auto narrow_alone = [&](Tape& tape) {
    return tape.apply<GroupedLinear>(
        {Variable::leaf(cut(x, 3)), Variable::of(narrow), bounds({0, 3, 7}), bounds({0, 0, 3, 4, 7})}, 2);
  };
  EXPECT_EQ(gradients(wide, together, dy), gradients(wide, wide_alone, dy.slice(0, 5)));
  EXPECT_EQ(gradients(narrow, together, dy), gradients(narrow, narrow_alone, cut(dy, 2)));
}

}  // namespace
}  // namespace cadre::autograd
