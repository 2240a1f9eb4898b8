#include "autograd/parameter_store.h"

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/variable.h"
#include "core/error.h"
#include "tests/autograd/poison_allocator.h"

namespace cadre::autograd {
namespace {

class ParameterStoreTest : public ::testing::Test {
 protected:
  static std::vector<float> values(const Tensor& tensor) {
    return {tensor.data<float>(), tensor.data<float>() + tensor.elements()};
  }
  testing::PoisonAllocator allocator_;
  ThreadPool threads_{1};
  Context context_{{threads_, kernels::best_isa()}, allocator_};
};

TEST_F(ParameterStoreTest, InitialValuesDependOnSeedAndSegmentNameAlone) {
  ParameterStore one, two, other_seed;
  Parameter& a = one.declare("a", {3, 5}, 0.5, true);
  one.materialise(context_, 1);
  two.declare("before", {7}, 0.5, true);
  Parameter& stacked = two.declare("stack", {2, 3, 5}, 0.5, true, {{"b", {3, 5}, 0, 0}, {"a", {3, 5}, 15, 1}});
  two.materialise(context_, 1);
  Parameter& again = other_seed.declare("a", {3, 5}, 0.5, true);
  other_seed.materialise(context_, 2);
  EXPECT_EQ(values(stacked.value.slice(1, 2)), values(a.value));
  EXPECT_NE(values(stacked.value.slice(0, 1)), values(a.value));
  EXPECT_NE(values(again.value), values(a.value));
}

TEST_F(ParameterStoreTest, LaysParametersOutAlignedAndCountsWithoutPadding) {
  ParameterStore store;
  store.declare("a", {3}, -1, true);
  const Parameter& b = store.declare("b", {5, 5}, 0, true);
  store.materialise(context_, 1);
  EXPECT_EQ(b.offset % 16, 0);
  EXPECT_EQ(store.parameter_count(), 28);
  EXPECT_EQ(store.elements(), 48);
  EXPECT_EQ(values(store.find("a")->value), (std::vector<float>{1, 1, 1}));
  EXPECT_EQ(values(b.value), std::vector<float>(25, 0));
  EXPECT_EQ(b.value.raw(), store.values().flat_slice(b.offset, b.shape).raw());
  EXPECT_EQ(store.find("c"), nullptr);
}

TEST_F(ParameterStoreTest, NormalInitialisationHasTheDeviationAsked) {
  ParameterStore store;
  const Parameter& p = store.declare("p", {100, 100}, 0.25, true);
  store.materialise(context_, 1);
  double sum = 0, squares = 0;
  for (const float x : values(p.value)) {
    sum += x;
    squares += double(x) * x;
  }
  EXPECT_NEAR(sum / 1e4, 0, 0.01);
  EXPECT_NEAR(std::sqrt(squares / 1e4), 0.25, 0.01);
}

TEST_F(ParameterStoreTest, UntouchedGradientsAreZeroed) {
  ParameterStore store;
  Parameter& touched = store.declare("touched", {2}, 0, true);
  Parameter& untouched = store.declare("untouched", {2}, 0, true);
  store.materialise(context_, 1);
  for (Parameter* p : {&touched, &untouched}) p->gradient.data<float>()[0] = p->gradient.data<float>()[1] = 3;
  touched.claim(0, 1, 0);
  store.zero_untouched_gradients();
  EXPECT_EQ(values(touched.gradient), (std::vector<float>{3, 3}));
  EXPECT_EQ(values(untouched.gradient), (std::vector<float>{0, 0}));
}

TEST_F(ParameterStoreTest, PackedWeightsAreRebuiltAfterTouch) {
  ParameterStore store;
  Parameter& p = store.declare("p", {3, 5}, 1, true);
  store.materialise(context_, 1);
  const auto packed = [&] { return p.operand(context_, kernels::Operand::kTransposed, p.value).values.as<float>()[0]; };
  const float before = packed();
  EXPECT_EQ(before, p.value.data<float>()[0]);
  p.value.data<float>()[0] = before + 1;
  EXPECT_EQ(packed(), before);
  store.touch();
  EXPECT_EQ(packed(), before + 1);
}

// The input gradient packs what it uses again.
TEST_F(ParameterStoreTest, StoredWeightsArePackedOnSecondUse) {
  ParameterStore store;
  Parameter& p = store.declare("p", {3, 5}, 1, true);
  store.materialise(context_, 1);
  const auto packed = [&] { return p.operand(context_, kernels::Operand::kAsStored, p.value).packed; };
  EXPECT_FALSE(packed());
  EXPECT_TRUE(packed());
  EXPECT_TRUE(packed());
  store.touch();
  EXPECT_FALSE(packed());
}

TEST_F(ParameterStoreTest, RejectsLateAndDoubleDeclarations) {
  ParameterStore store;
  store.declare("p", {3}, 0, true);
  EXPECT_THROW(store.declare("p", {3}, 0, true), InternalError);
  store.materialise(context_, 1);
  EXPECT_THROW(store.declare("q", {3}, 0, true), InternalError);
}

TEST_F(ParameterStoreTest, WithoutGradientsVariablesAreConstant) {
  ParameterStore store;
  Parameter& p = store.declare("p", {3}, 0, true);
  store.materialise(context_, 1, false);
  EXPECT_FALSE(store.gradients());
  EXPECT_FALSE(Variable::of(p).requires_gradient());
}

}  // namespace
}  // namespace cadre::autograd
