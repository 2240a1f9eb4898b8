#include "autograd/tape.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "autograd/ops/activation.h"
#include "autograd/ops/embedding.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/norm.h"
#include "autograd/parameter_store.h"
#include "autograd/profiler.h"
#include "core/error.h"
#include "core/rng.h"
#include "tests/autograd/poison_allocator.h"

namespace cadre::autograd {
namespace {

class TapeTest : public ::testing::Test {
 protected:
  Tensor random(Shape shape, uint64_t stream) {
    Tensor tensor = Tensor::empty(allocator_, context_.dtype, shape);
    Rng rng(3, RngPurpose::kTest, stream);
    for (int64_t i = 0; i < tensor.elements(); ++i) tensor.data<float>()[i] = static_cast<float>(rng.normal());
    return tensor;
  }
  size_t in_use() const { return allocator_.stats().in_use; }
  static std::vector<float> values(const Tensor& tensor) {
    return {tensor.data<float>(), tensor.data<float>() + tensor.elements()};
  }
  static Variable linear(Tape& tape, const Variable& x, Parameter& weight) {
    return tape.apply<GroupedLinear>({x, Variable::of(weight), Variable()});
  }
  static Variable gelu(Tape& tape, const Variable& x) {
    return tape.apply<ExpertActivation>({x, Variable()}, kernels::Activation::kGelu);
  }

  testing::PoisonAllocator allocator_;
  ThreadPool threads_{1};
  Context context_{{threads_, kernels::best_isa()}, allocator_};
};

TEST_F(TapeTest, ValuesThatNoBackwardNeedsAreFreedWithTheirHandles) {
  const Variable a = Variable::leaf(random({64, 64}, 1), true);
  Tape tape(context_);
  Variable sum = tape.apply<Add>({a, a});
  const size_t with_sum = in_use();
  sum = tape.apply<Add>({sum, a});  // an Add keeps nothing for its backward
  EXPECT_EQ(in_use(), with_sum);
  Variable activated = gelu(tape, sum);
  sum = Variable();
  EXPECT_EQ(in_use(), with_sum + 64 * 64 * sizeof(float)) << "the activation keeps its input, and has its output";
  activated = Variable();
  EXPECT_EQ(in_use(), with_sum);
}

TEST_F(TapeTest, InferenceKeepsNothing) {
  const Variable x = Variable::leaf(random({64, 64}, 1), true);
  const size_t before = in_use();
  Tape tape(context_, false);
  Variable y = gelu(tape, gelu(tape, x));
  EXPECT_FALSE(y.requires_gradient());
  y = Variable();
  EXPECT_EQ(in_use(), before);
}

TEST_F(TapeTest, BackwardReleasesValuesAndGradientsButLeafGradients) {
  const Variable x = Variable::leaf(random({64, 64}, 1), true);
  const size_t before = in_use();
  Tape tape(context_);
  Variable y = gelu(tape, gelu(tape, gelu(tape, x)));
  tape.backward({{std::move(y), random({64, 64}, 2)}});
  y = Variable();
  EXPECT_EQ(in_use(), before + x.gradient().bytes());
}

TEST_F(TapeTest, DroppingATapeReleasesWhatItKept) {
  const Variable x = Variable::leaf(random({64, 64}, 1), true);
  const size_t before = in_use();
  {
    Tape tape(context_);
    gelu(tape, gelu(tape, x));
    EXPECT_GT(in_use(), before);
  }
  EXPECT_EQ(in_use(), before);
}

// A chain of activations in stretches, each recomputed from its first value.
std::pair<size_t, std::vector<float>> peak_of_chain(testing::PoisonAllocator& allocator, const Context& context,
                                                    const Tensor& input, const Tensor& seed, bool recompute) {
  const Variable x = Variable::leaf(input, true);
  allocator.reset_peak();
  Tape tape(context);
  Variable y = x;
  for (int stretch = 0; stretch < 4; ++stretch) {
    {
      const RecomputeScope scope(tape, recompute);
      for (int i = 0; i < 5; ++i) y = tape.apply<ExpertActivation>({y, Variable()}, kernels::Activation::kGelu);
    }
    tape.pin(y);
    tape.discard_recomputable();
  }
  tape.backward({{std::move(y), seed}});
  const float* gradient = x.gradient().data<float>();
  return {allocator.stats().peak, {gradient, gradient + x.gradient().elements()}};
}

TEST_F(TapeTest, RecomputeLowersThePeakAndChangesNoBit) {
  const Tensor x = random({64, 64}, 1), seed = random({64, 64}, 2);
  const auto [peak, gradient] = peak_of_chain(allocator_, context_, x, seed, false);
  const auto [lower_peak, same_gradient] = peak_of_chain(allocator_, context_, x, seed, true);
  EXPECT_LT(lower_peak, peak * 2 / 3);
  EXPECT_EQ(same_gradient, gradient);
}

TEST_F(TapeTest, PinnedValuesStayAndDiscardedOnesComeBackWhenRead) {
  const Variable x = Variable::leaf(random({8, 8}, 1), true);
  Tape tape(context_);
  Variable discarded, pinned;
  {
    const RecomputeScope scope(tape, true);
    discarded = gelu(tape, x);
    pinned = gelu(tape, discarded);
  }
  const std::vector<float> wanted = values(discarded.tensor());
  const void* pinned_data = pinned.tensor().raw();
  tape.pin(pinned);
  tape.discard_recomputable();
  EXPECT_FALSE(discarded.value()->tensor);
  EXPECT_EQ(pinned.tensor().raw(), pinned_data);
  EXPECT_EQ(values(discarded.tensor()), wanted);
}

TEST_F(TapeTest, ReadingADiscardedValueAfterItsTapeIsAnError) {
  const Variable x = Variable::leaf(random({8, 8}, 1), true);
  Variable y;
  {
    Tape tape(context_);
    {
      const RecomputeScope scope(tape, true);
      y = gelu(tape, x);
    }
    tape.discard_recomputable();
  }
  EXPECT_THROW(y.tensor(), InternalError);
}

TEST_F(TapeTest, ReadingADiscardedValueAfterTheBackwardIsAnError) {
  const Variable x = Variable::leaf(random({8, 8}, 1), true);
  Tape tape(context_);
  Variable y;
  {
    const RecomputeScope scope(tape, true);
    y = gelu(tape, x);
  }
  tape.discard_recomputable();
  tape.backward({{y, random({8, 8}, 2)}});
  EXPECT_THROW(y.tensor(), InternalError);
}

class ReadyTest : public TapeTest {
 protected:
  // table and head are one parameter (tied), `unused` has a record that no gradient reaches.
  void SetUp() override {
    table_ = &store_.declare("table", {7, 4}, 1, false);
    first_ = &store_.declare("first", {4, 4}, 1, true);
    second_ = &store_.declare("second", {4, 4}, 1, true);
    unused_ = &store_.declare("unused", {4, 4}, 1, true);
    store_.materialise(context_, 5);
  }

  void record(Tape& tape, std::vector<std::string>& ready, std::vector<Tape::Seed>& seeds) {
    tape.on_parameter_ready = [&ready](Parameter& parameter) { ready.push_back(parameter.name); };
    Tensor ids = Tensor::empty(allocator_, Dtype::kI32, {3});
    for (int i = 0; i < 3; ++i) ids.data<int32_t>()[i] = 2 * i;
    Variable x = tape.apply<Embedding>({Variable::leaf(ids), Variable::of(*table_)});
    linear(tape, x, *unused_);
    x = gelu(tape, linear(tape, x, *first_));
    x = gelu(tape, linear(tape, x, *second_));
    x = linear(tape, x, *first_);
    seeds.push_back({linear(tape, x, *table_), random({3, 7}, 9)});
  }

  ParameterStore store_;
  Parameter *table_, *first_, *second_, *unused_;
};

TEST_F(ReadyTest, EachParameterIsReadyOnceWhenItsLastContributionIsIn) {
  std::vector<std::string> ready;
  std::vector<Tape::Seed> seeds;
  Tape tape(context_);
  record(tape, ready, seeds);
  EXPECT_TRUE(ready.empty());
  tape.backward(std::move(seeds));
  EXPECT_EQ(ready, (std::vector<std::string>{"second", "first", "unused", "table"}));
  EXPECT_TRUE(unused_->gradient_empty());
}

TEST_F(ReadyTest, DeferredParametersAreReadyInTheDeferredPart) {
  std::vector<std::string> ready;
  std::vector<Tape::Seed> seeds;
  Tape tape(context_);
  record(tape, ready, seeds);
  tape.backward(std::move(seeds), BackwardPart::kInputsOnly);
  EXPECT_TRUE(ready.empty());
  EXPECT_TRUE(second_->gradient_empty());
  tape.backward_parameters();
  EXPECT_EQ(ready, (std::vector<std::string>{"second", "first", "unused", "table"}));
}

TEST_F(ReadyTest, NothingOfAWholeBackwardIsDeferred) {
  std::vector<std::string> ready;
  std::vector<Tape::Seed> seeds;
  Tape tape(context_);
  {
    const WholeBackwardScope scope(tape, true);
    record(tape, ready, seeds);
  }
  tape.backward(std::move(seeds), BackwardPart::kInputsOnly);
  const std::vector<std::string> all{"second", "first", "unused", "table"};
  EXPECT_EQ(ready, all);
  tape.backward_parameters();
  EXPECT_EQ(ready, all);
}

TEST_F(ReadyTest, MicroBatchesAddUpAndClearingStartsAnew) {
  const auto backward = [&] {
    std::vector<std::string> ready;
    std::vector<Tape::Seed> seeds;
    Tape tape(context_);
    record(tape, ready, seeds);
    tape.backward(std::move(seeds));
  };
  backward();
  const std::vector<float> once = values(table_->gradient);
  backward();
  const std::vector<float> twice = values(table_->gradient);
  for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(twice[i], 2 * once[i], 1e-5 * (1 + std::abs(once[i])));
  store_.clear_gradients();
  backward();
  EXPECT_EQ(values(table_->gradient), once);
}

TEST_F(TapeTest, SharedGradientsAreCopiedBeforeTheyAreWrittenTo) {
  const Variable a = Variable::leaf(random({4, 4}, 1), true), b = Variable::leaf(random({4, 4}, 2), true);
  const Tensor seed = random({4, 4}, 3);
  const std::vector<float> given = values(seed);
  Tape tape(context_);
  // a gets the passed gradient twice, b shares it and must not see the second.
  const Variable y = tape.apply<Add>({tape.apply<Add>({a, b}), a});
  tape.backward({{y, seed}});
  EXPECT_EQ(values(seed), given);
  EXPECT_EQ(values(b.gradient()), given);
  for (size_t i = 0; i < given.size(); ++i) EXPECT_EQ(values(a.gradient())[i], 2 * given[i]);
}

TEST_F(TapeTest, TheNormOfASumCopiesASharedGradientBeforeAddingToIt) {
  const Variable a = Variable::leaf(random({4, 8}, 1), true), b = Variable::leaf(random({4, 8}, 2), true);
  const Variable weight = Variable::leaf(random({8}, 3), true), other = Variable::leaf(random({4, 8}, 4), true);
  const Tensor seed = random({4, 8}, 5);
  const std::vector<float> given = values(seed);
  Tape tape(context_);
  const auto out = tape.apply_all<AddRmsNorm>({a, b, weight}, 1e-5);
  const Variable y = tape.apply<Add>({out[0], other});
  tape.backward({{y, seed}, {out[1], random({4, 8}, 6)}});
  EXPECT_EQ(values(seed), given);
  EXPECT_EQ(values(other.gradient()), given);
  EXPECT_NE(values(a.gradient()), given);
  EXPECT_EQ(values(a.gradient()), values(b.gradient()));
}

TEST_F(TapeTest, AValueThatIsStillHeldIsNotOverwrittenByItsGradient) {
  const Variable x = Variable::leaf(random({4, 8}, 1), true);
  Tape tape(context_);
  const Variable sum = tape.apply<Add>({x, x});
  const std::vector<float> before = values(sum.tensor());
  tape.backward({{gelu(tape, sum), random({4, 8}, 2)}});
  EXPECT_EQ(values(sum.tensor()), before);
}

struct NormRun {
  std::vector<float> sum, y, dx, dbranch, dweight;
  bool operator==(const NormRun&) const = default;
};

class FusedNormTest : public TapeTest {
 protected:
  // The residual stream goes on from the sum, so that its gradient arrives before the norm's.
  NormRun run(kernels::Isa isa, Shape shape, bool fused) {
    context_.exec.isa = isa;
    const Variable x = Variable::leaf(random(shape, 1), true), branch = Variable::leaf(random(shape, 2), true);
    const Variable weight = Variable::leaf(random({shape[1]}, 3), true);
    Tape tape(context_);
    std::vector<Variable> out;
    if (fused) {
      out = tape.apply_all<AddRmsNorm>({x, branch, weight}, 1e-6);
    } else {
      out = {tape.apply<Add>({x, branch}), Variable()};
      out[1] = tape.apply<RmsNorm>({out[0], weight}, 1e-6);
    }
    const NormRun forward{values(out[0].tensor()), values(out[1].tensor()), {}, {}, {}};
    const Variable residual = tape.apply<Add>({out[0], gelu(tape, out[1])});
    tape.backward({{residual, random(shape, 4)}});
    return {forward.sum, forward.y, values(x.gradient()), values(branch.gradient()), values(weight.gradient())};
  }
};

TEST_F(FusedNormTest, EqualsAddThenNormBitForBit) {
  for (const kernels::Isa isa : {kernels::Isa::kPortable, kernels::Isa::kAvx2, kernels::Isa::kAvx512}) {
    if (!kernels::isa_available(isa)) continue;
    for (const Shape& shape : {Shape{1, 1}, Shape{5, 7}, Shape{37, 64}, Shape{131, 67}}) {
      SCOPED_TRACE(std::string(kernels::name_of(isa)) + " " + shape.to_string());
      EXPECT_TRUE(run(isa, shape, true) == run(isa, shape, false));
    }
  }
}

TEST_F(TapeTest, TheProfilerCountsCallsAndFlopsByOpAndDirection) {
  ParameterStore store;
  Parameter& weight = store.declare("w", {5, 4}, 1, true);
  store.materialise(context_, 1);
  Profiler profiler;
  context_.profiler = &profiler;
  const Variable x = Variable::leaf(random({3, 4}, 1), true);
  Tape tape(context_);
  Variable y;
  {
    const RecomputeScope scope(tape, true);
    y = gelu(tape, linear(tape, x, weight));
  }
  tape.discard_recomputable();
  tape.backward({{y, random({3, 5}, 2)}});
  const auto& times = profiler.times();
  for (const char* name : {"grouped_linear", "grouped_linear.dx", "grouped_linear.dw", "grouped_linear.recompute"}) {
    ASSERT_TRUE(times.contains(name)) << name;
    EXPECT_EQ(times.at(name).calls, 1) << name;
    EXPECT_EQ(times.at(name).flops, 2.0 * 3 * 4 * 5) << name;
    EXPECT_GE(times.at(name).seconds, 0) << name;
  }
  EXPECT_FALSE(times.contains("expert_activation.dw"));
  EXPECT_NE(profiler.table().find("expert_activation.dx"), std::string::npos);
  profiler.clear();
  EXPECT_TRUE(profiler.times().empty());
}

TEST_F(TapeTest, CommunicationMayProgressAfterEveryOp) {
  int polls = 0;
  context_.poll = [&polls] { ++polls; };
  const Variable x = Variable::leaf(random({3, 4}, 1), true);
  Tape tape(context_);
  const Variable y = gelu(tape, gelu(tape, x));
  EXPECT_EQ(polls, 2);
  tape.backward({{y, random({3, 4}, 2)}});
  EXPECT_EQ(polls, 4);
}

TEST_F(TapeTest, ASeedOfAnotherShapeIsRejected) {
  const Variable x = Variable::leaf(random({3, 4}, 1), true);
  Tape tape(context_);
  const Variable y = gelu(tape, x);
  EXPECT_THROW(tape.backward({{y, random({4, 3}, 2)}}), InternalError);
}

}  // namespace
}  // namespace cadre::autograd
