// What every op must satisfy, over the cases of every op.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/rng.h"
#include "tests/autograd/case_runner.h"

namespace cadre::autograd::testing {
namespace {

using Values = std::vector<std::vector<double>>;

template <class List>
struct TypesOf;
template <class... Ops>
struct TypesOf<OpList<Ops...>> {
  using Types = ::testing::Types<Ops...>;
};

template <class O>
class OpConformance : public ::testing::Test {
 protected:
  // body(case), with the case named in failures.
  template <class F>
  void each_case(F&& body) {
    for (const OpCase& op_case : cases<O>()) {
      SCOPED_TRACE(op_case.name);
      body(op_case);
    }
  }
};
TYPED_TEST_SUITE(OpConformance, TypesOf<AllOps>::Types);

double largest(const std::vector<double>& values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

void expect_near(const Values& got, const Values& wanted, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), wanted[i].size()) << what << " " << i;
    const double allowed = tolerance * std::max(1.0, largest(wanted[i]));
    for (size_t j = 0; j < got[i].size(); ++j) {
      ASSERT_FALSE(!(std::abs(got[i][j] - wanted[i][j]) <= allowed))
          << what << " " << i << " element " << j << ": " << got[i][j] << ", wanted " << wanted[i][j];
    }
  }
}

void expect_same_bits(const RunResult& got, const RunResult& wanted) {
  EXPECT_EQ(got.outputs, wanted.outputs);
  EXPECT_EQ(got.gradients, wanted.gradients);
}

// The case with `step` times `direction` added to one input.
OpCase moved(const OpCase& op_case, size_t input, const std::vector<double>& direction, double step) {
  OpCase result = op_case;
  for (size_t i = 0; i < direction.size(); ++i) result.inputs[input].reals[i] += step * direction[i];
  return result;
}

// <gradient, direction> against central differences.
void expect_slope(const OpCase& op_case, size_t input, const std::vector<double>& gradient,
                  const std::vector<double>& direction, const std::string& what) {
  constexpr double kStep = 1e-5;
  const double above = run_case(moved(op_case, input, direction, kStep), {}).projected;
  const double below = run_case(moved(op_case, input, direction, -kStep), {}).projected;
  const double wanted = (above - below) / (2 * kStep);
  double got = 0;
  for (size_t i = 0; i < gradient.size(); ++i) got += gradient[i] * direction[i];
  EXPECT_NEAR(got, wanted, 1e-6 * std::max(1.0, std::abs(wanted))) << "input " << input << " " << what;
}

std::vector<double> unit_direction(const CaseInput& input) {
  Rng rng(19, RngPurpose::kTest);
  std::vector<double> direction(input.reals.size());
  double squares = 0;
  for (double& x : direction) {
    x = rng.normal();
    squares += x * x;
  }
  for (double& x : direction) x /= std::sqrt(squares);
  return direction;
}

void check_finite_differences(const OpCase& op_case) {
  constexpr size_t kMostElements = 24;  // looked at one by one; a random direction covers all
  const RunResult result = run_case(op_case, {});
  for (size_t i = 0; i < op_case.inputs.size(); ++i) {
    const CaseInput& input = op_case.inputs[i];
    if (!input.differentiable) continue;
    ASSERT_EQ(result.gradients[i].size(), input.reals.size()) << "no gradient for input " << i;
    if (input.reals.empty()) continue;
    expect_slope(op_case, i, result.gradients[i], unit_direction(input), "in a random direction");
    const size_t stride = (input.reals.size() + kMostElements - 1) / kMostElements;
    for (size_t j = 0; j < input.reals.size(); j += stride) {
      std::vector<double> axis(input.reals.size(), 0);
      axis[j] = 1;
      expect_slope(op_case, i, result.gradients[i], axis, "element " + std::to_string(j));
    }
  }
}

TYPED_TEST(OpConformance, GradientsMatchFiniteDifferences) { this->each_case(check_finite_differences); }

TYPED_TEST(OpConformance, F32MatchesF64InEveryInstructionSet) {
  this->each_case([](const OpCase& op_case) {
    const RunResult wanted = run_case(op_case, {});
    for (const kernels::Isa isa : available_isas()) {
      SCOPED_TRACE(kernels::name_of(isa));
      for (const bool parameters : {false, true}) {
        const RunResult got = run_case(op_case, {.dtype = Dtype::kF32, .isa = isa, .parameters = parameters});
        expect_near(got.outputs, wanted.outputs, op_case.f32_tolerance, "output");
        expect_near(got.gradients, wanted.gradients, op_case.f32_tolerance, "gradient of input");
      }
    }
  });
}

Values sum(const Values& a, const Values& b) {
  Values total = a;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].size(); ++j) total[i][j] += b[i][j];
  }
  return total;
}

TYPED_TEST(OpConformance, InputsUsedTwiceGetTheSumOfGradients) {
  this->each_case([](const OpCase& op_case) {
    for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
      for (const bool parameters : {false, true}) {
        SCOPED_TRACE(std::string(name_of(dtype)) + (parameters ? ", parameters" : ", leaves"));
        const RunResult first = run_case(op_case, {.dtype = dtype, .projections = {0}});
        const RunResult second = run_case(op_case, {.dtype = dtype, .projections = {1}});
        const RunResult both = run_case(op_case, {.dtype = dtype, .parameters = parameters, .projections = {0, 1}});
        expect_near(both.gradients, sum(first.gradients, second.gradients), dtype == Dtype::kF64 ? 1e-13 : 4e-6,
                    "gradient of input");
      }
    }
  });
}

TYPED_TEST(OpConformance, ParametersAndLeavesAgree) {
  this->each_case([](const OpCase& op_case) {
    for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
      expect_same_bits(run_case(op_case, {.dtype = dtype, .parameters = true}), run_case(op_case, {.dtype = dtype}));
    }
  });
}

TYPED_TEST(OpConformance, RecomputeAndDeferredParametersChangeNoBit) {
  this->each_case([](const OpCase& op_case) {
    for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
      for (const bool parameters : {false, true}) {
        RunOptions options{.dtype = dtype, .parameters = parameters, .derived_inputs = true, .projections = {0, 1}};
        const RunResult wanted = run_case(op_case, options);
        options.part = BackwardPart::kInputsOnly;
        expect_same_bits(run_case(op_case, options), wanted);
        options.recompute = true;
        expect_same_bits(run_case(op_case, options), wanted);
        options.part = BackwardPart::kAll;
        expect_same_bits(run_case(op_case, options), wanted);
      }
    }
  });
}

TYPED_TEST(OpConformance, ThreadsChangeNoBit) {
  this->each_case([](const OpCase& op_case) {
    for (const kernels::Isa isa : available_isas()) {
      const RunResult wanted = run_case(op_case, {.dtype = Dtype::kF32, .isa = isa, .threads = 1});
      expect_same_bits(run_case(op_case, {.dtype = Dtype::kF32, .isa = isa, .threads = 2}), wanted);
    }
  });
}

TYPED_TEST(OpConformance, ADryRunComputesNothingAndFillsTheSameTensors) {
  this->each_case([](const OpCase& op_case) {
    for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
      for (const bool parameters : {false, true}) {
        const RunResult real = run_case(op_case, {.dtype = dtype, .parameters = parameters});
        const RunResult dry = run_case(op_case, {.dtype = dtype, .parameters = parameters, .dry = true});
        ASSERT_EQ(dry.outputs.size(), real.outputs.size());
        const bool plans = std::is_same_v<TypeParam, PlanRows>;  // the offsets of an even load
        for (size_t i = plans ? 1 : 0; i < dry.outputs.size(); ++i) {
          const bool in_place = op_case.make()->shares(i) >= 0;
          EXPECT_TRUE(in_place || largest(dry.outputs[i]) == 0);
        }
        ASSERT_EQ(dry.gradients.size(), real.gradients.size());
        for (size_t i = 0; i < dry.gradients.size(); ++i) EXPECT_EQ(dry.gradients[i].size(), real.gradients[i].size());
      }
    }
  });
}

TYPED_TEST(OpConformance, InferRejectsMissingInputsByName) {
  const auto op = cases<TypeParam>().front().make();
  try {
    op->infer({});
    FAIL() << op->name() << " took no inputs";
  } catch (const InternalError& error) {
    EXPECT_EQ(std::string(error.what()).find(std::string(op->name()) + ": wanted "), 0u) << error.what();
  }
}

TYPED_TEST(OpConformance, CostCountsTheBytesOfAllTensors) {
  this->each_case([](const OpCase& op_case) {
    std::vector<TensorSpec> in;
    double inputs = 0;
    for (const CaseInput& input : op_case.inputs) {
      in.push_back({});
      if (input.kind == CaseInput::Kind::kAbsent) continue;
      const bool integers = input.kind == CaseInput::Kind::kI32 || input.kind == CaseInput::Kind::kI64;
      in.back() = {input.kind == CaseInput::Kind::kI64   ? Dtype::kI64
                   : input.kind == CaseInput::Kind::kI32 ? Dtype::kI32
                                                         : Dtype::kF64,
                   input.shape};
      size_t elements = integers ? input.integers.size() : input.reals.size();
      if (!input.columns.empty()) elements = input.columns.size() * size_t(*std::ranges::min_element(input.columns));
      inputs += double(elements) * double(size_of(in.back().dtype));
    }
    const auto op = op_case.make();
    const Cost cost = op->cost(in, op->infer(in));
    EXPECT_GE(cost.bytes, inputs);
    EXPECT_GE(cost.flops, 0);
  });
}

}  // namespace
}  // namespace cadre::autograd::testing
