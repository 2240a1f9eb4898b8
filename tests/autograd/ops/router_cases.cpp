// The router: choices are given where finite differences could cross a tie.

#include <cmath>

#include "tests/autograd/op_cases.h"

namespace cadre::autograd::testing {
namespace {

CaseInput logits(int64_t tokens, int64_t experts) { return normal(Shape{tokens, experts}, 1, 2); }

// Positive, as scores are.
CaseInput scores(int64_t tokens, int64_t experts) {
  CaseInput input = normal(Shape{tokens, experts}, 2, 0.25);
  for (double& value : input.reals) value = 0.125 + std::abs(value);
  return input;
}

// Expert 1 is not there.
CaseInput without_one(int64_t experts) {
  std::vector<double> mask(static_cast<size_t>(experts), 0.25);
  mask[1] = -INFINITY;
  return f64(Shape{experts}, mask);
}

CaseInput choices(int64_t tokens, int64_t experts, int64_t k) {
  return i32(Shape{tokens, k}, random_choices(tokens, experts, k, 3));
}

CaseInput counts(Shape shape, std::vector<int64_t> values) {
  CaseInput input = i64(std::move(values));
  input.shape = shape;
  return input;
}

// The last place of every other token is not used.
CaseInput fewer_choices(int64_t tokens, int64_t experts, int64_t k) {
  CaseInput input = choices(tokens, experts, k);
  for (int64_t t = 0; t < tokens; t += 2) input.integers[static_cast<size_t>((t + 1) * k - 1)] = -1;
  return input;
}

}  // namespace

template <>
std::vector<OpCase> cases<RouterScores>() {
  const auto softmax = maker<RouterScores>(ScoreKind::kSoftmax), sigmoid = maker<RouterScores>(ScoreKind::kSigmoid);
  return {
      {"one expert", softmax, {logits(1, 1), absent()}, {}},
      {"softmax", softmax, {logits(7, 5), absent()}, {}},
      {"softmax without one", softmax, {logits(7, 5), without_one(5)}, {}},
      {"softmax past a vector", softmax, {logits(9, 67), without_one(67)}, {}},
      {"sigmoid", sigmoid, {logits(7, 5), absent()}, {}},
      {"sigmoid without one", sigmoid, {logits(7, 5), without_one(5)}, {}},
      {"sigmoid past a vector", sigmoid, {logits(9, 67), without_one(67)}, {}},
      {"no tokens", softmax, {logits(0, 4), absent()}, {}},
  };
}

template <>
std::vector<OpCase> cases<TwoLevelScores>() {
  const auto op = maker<TwoLevelScores>();
  const CaseInput groups = normal(Shape{7, 3}, 9);
  std::vector<double> mask(6, 0.0);
  mask[2] = mask[3] = mask[5] = -INFINITY;  // a whole group, and one more
  return {{"all", op, {groups, logits(7, 6), absent()}, {}},
          {"without some", op, {groups, logits(7, 6), f64(Shape{6}, mask)}, {}},
          {"one group", op, {normal(Shape{3, 1}, 9), logits(3, 4), absent()}, {}}};
}

template <>
std::vector<OpCase> cases<UnitRows>() {
  return {{"some", maker<UnitRows>(), {normal(Shape{5, 7}, 13)}, {}},
          {"one column", maker<UnitRows>(), {constant(normal(Shape{3, 1}, 13))}, {}}};
}

template <>
std::vector<OpCase> cases<Jitter>() {
  return {{"some", maker<Jitter>(0.25, kernels::RowDraws{3, 4, 5}), {normal(Shape{7, 13}, 10)}, {}}};
}

template <>
std::vector<OpCase> cases<AddNoise>() {
  return {{"some", maker<AddNoise>(kernels::RowDraws{3, 4, 5}), {logits(7, 5), normal(Shape{7, 5}, 11)}, {}}};
}

template <>
std::vector<OpCase> cases<NoisyLoad>() {
  const std::vector<CaseInput> inputs = {logits(7, 5), normal(Shape{7, 5}, 11), normal(Shape{7, 5}, 12, 2)};
  return {{"top two", maker<NoisyLoad>(2), inputs, {}, {}, 1e-4},
          {"all but one", maker<NoisyLoad>(4), inputs, {}, {}, 1e-4}};
}

template <>
std::vector<OpCase> cases<ChooseExperts>() {
  using kernels::ChoiceKind;
  const auto with = [](int64_t k, kernels::Choice choice) { return maker<ChooseExperts>(k, choice); };
  const CaseInput some = constant(scores(7, 6));
  return {
      {"top two", with(2, {}), {some, absent(), absent()}, {}},
      {"with a bias", with(2, {}), {some, without_one(6), absent()}, {}},
      {"given", with(2, {}), {some, absent(), fewer_choices(7, 6, 2)}, {}},
      {"of two groups in three", with(3, {.groups = 3, .kept_groups = 2}), {some, absent(), absent()}, {}},
      {"top p", with(4, {.kind = ChoiceKind::kTopP, .top_p = 0.5}), {some, absent(), absent()}, {}},
      {"random", with(3, {.kind = ChoiceKind::kRandom, .seed = 7}), {some, absent(), absent()}, {}},
      {"balanced", with(4, {.kind = ChoiceKind::kBalanced}), {some, absent(), absent()}, {}},
  };
}

// An expert without a token, whose lowest key is infinite, is in tests/kernels/expert_choice_test.cpp.
template <>
std::vector<OpCase> cases<ExpertChoice>() {
  const CaseInput some = constant(scores(7, 6));
  std::vector<int64_t> given;
  for (int64_t t = 0; t < 7; ++t) {
    for (int64_t e = 0; e < 6; ++e) given.push_back((t + e) % 3 == 0 ? e : -1);
  }
  const CaseInput thresholds = f64(Shape{6}, {0.25, 0.3, 0.125, 0.2, 0.3, 0}),
                  bias = f64(Shape{6}, {1, 0, -1, 0, 0.5, 0});
  return {
      {"two a token", maker<ExpertChoice>(2), {some, absent(), absent(), absent()}, {}},
      {"with a bias", maker<ExpertChoice>(2), {some, bias, absent(), absent()}, {}},
      {"all", maker<ExpertChoice>(6), {some, absent(), absent(), absent()}, {}},
      {"above thresholds", maker<ExpertChoice>(2), {some, absent(), thresholds, absent()}, {}},
      {"given", maker<ExpertChoice>(2), {some, absent(), absent(), i32(Shape{7, 6}, given)}, {}},
  };
}

template <>
std::vector<OpCase> cases<GateWeights>() {
  const auto with = [](bool renormalise, double scale) { return maker<GateWeights>(renormalise, scale); };
  return {
      {"renormalised", with(true, 1), {scores(7, 5), choices(7, 5, 2)}, {}},
      {"raw", with(false, 1), {scores(7, 5), choices(7, 5, 2)}, {}},
      {"scaled", with(true, 2.5), {scores(7, 5), choices(7, 5, 3)}, {}},
      {"fewer", with(true, 2.5), {scores(7, 5), fewer_choices(7, 5, 2)}, {}},
      {"fewer raw", with(false, 0.5), {scores(7, 5), fewer_choices(7, 5, 3)}, {}},
      {"only one", with(true, 1), {scores(5, 3), choices(5, 3, 1)}, {}},
      {"all of many", with(true, 1), {scores(3, 33), choices(3, 33, 33)}, {}},
      {"no tokens", with(true, 1), {scores(0, 4), choices(0, 4, 2)}, {}},
  };
}

template <>
std::vector<OpCase> cases<SpreadWeights>() {
  return {
      {"some", maker<SpreadWeights>(5), {normal(Shape{7, 2}, 4), fewer_choices(7, 5, 2)}, {}},
      {"no tokens", maker<SpreadWeights>(4), {normal(Shape{0, 2}, 4), choices(0, 4, 2)}, {}},
  };
}

template <>
std::vector<OpCase> cases<ScopeSums>() {
  return {
      {"one scope", maker<ScopeSums>(1), {normal(Shape{7, 5}, 5)}, {}},
      {"sequences", maker<ScopeSums>(3), {normal(Shape{12, 67}, 5)}, {}},
      {"no tokens", maker<ScopeSums>(1), {normal(Shape{0, 4}, 5)}, {}},
  };
}

template <>
std::vector<OpCase> cases<ChoiceCounts>() {
  return {{"sequences", maker<ChoiceCounts>(3, 5), {fewer_choices(12, 5, 2)}, {}}};
}

template <>
std::vector<OpCase> cases<SwitchLoss>() {
  const auto loss = maker<SwitchLoss>(LossWeight{0.5, 24});
  return {
      {"sequences", loss, {scores(3, 4), counts(Shape{3, 4}, {1, 2, 3, 0, 4, 1, 1, 1, 0, 0, 0, 0}), absent()}, {}},
      {"given fractions",
       loss,
       {scores(1, 4), counts(Shape{1, 4}, {1, 2, 3, 0}), f64(Shape{4}, {0.125, 0.5, 0.125, 0.25})},
       {}},
  };
}

template <>
std::vector<OpCase> cases<LoadLoss>() {
  const CaseInput uneven = [] {
    CaseInput input = scores(2, 4);
    input.reals = {1, 8, 2, 3, 0.5, 0.25, 0.125, 9};
    return input;
  }();
  const CaseInput one = [] {
    CaseInput input = scores(1, 4);
    input.reals = {1, 8, 2, 3};
    return input;
  }();
  const CaseInput before = f64(Shape{4}, {9, 1, 4, 2});
  const auto with = [](LoadMeasure measure) { return maker<LoadLoss>(measure, 6.0, LossWeight{0.5, 24}); };
  return {
      {"variation", with(LoadMeasure::kVariation), {uneven, absent()}, {}},
      {"hinge", with(LoadMeasure::kHinge), {uneven, absent()}, {}},
      {"linearised variation", with(LoadMeasure::kVariation), {one, before}, {}},
      {"linearised hinge", with(LoadMeasure::kHinge), {one, before}, {}},
  };
}

template <>
std::vector<OpCase> cases<ZLoss>() {
  return {{"some", maker<ZLoss>(LossWeight{0.25, 11}), {normal(Shape{7}, 6)}, {}},
          {"no tokens", maker<ZLoss>(LossWeight{0.25, 11}), {normal(Shape{0}, 6)}, {}}};
}

template <>
std::vector<OpCase> cases<EntropyLoss>() {
  return {{"some", maker<EntropyLoss>(LossWeight{-0.5, 11}), {scores(7, 5)}, {}}};
}

template <>
std::vector<OpCase> cases<RowShares>() {
  return {{"some", maker<RowShares>(), {scores(7, 5)}, {}}};
}

// Only what is finite, with factors of 1; the rest is in tests/autograd/guard_test.cpp.
template <>
std::vector<OpCase> cases<GuardInputs>() {
  CaseInput rows = normal(Shape{7, 5}, 7);
  rows.live = 6;
  return {{"some",
           maker<GuardInputs>(std::make_shared<RowFaults>(3, 0)),
           {rows, i64({0, 2, 2, 6}), f64(Shape{3}, {1, 1, 1}), i32(Shape{3}, {1, 0, 1})},
           {6}}};
}

template <>
std::vector<OpCase> cases<GuardOutputs>() {
  CaseInput rows = normal(Shape{7, 5}, 7);
  rows.live = 6;
  return {{"some",
           maker<GuardOutputs>(),
           {rows, i64({0, 2, 2, 6}), f64(Shape{3}, {1, 1, 1}), i32(Shape{3}, {1, 0, 1})},
           {6, -1, 6}}};
}

template <>
std::vector<OpCase> cases<GuardGates>() {
  return {{"some",
           maker<GuardGates>(nullptr),
           {normal(Shape{7, 2}, 8), fewer_choices(7, 3, 2), f64(Shape{3}, {1, 1, 1}), i32(Shape{3}, {1, 0, 1})},
           {}}};
}

}  // namespace cadre::autograd::testing
