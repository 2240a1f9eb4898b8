// Matrix products, activations, and tokens to experts and back.

#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/autograd/op_cases.h"

namespace cadre::autograd::testing {
namespace {

CaseInput live(CaseInput input, int64_t rows) {
  input.live = rows;
  return input;
}

OpCase linear(const char* name, int64_t rows, int64_t in, int64_t out) {
  return {name, maker<GroupedLinear>(), {normal(Shape{rows, in}, 1), normal(Shape{out, in}, 2), absent()}, {}};
}

OpCase grouped(const char* name, int64_t rows, int64_t in, int64_t out, std::vector<int64_t> offsets) {
  const auto groups = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t used = offsets.back();
  return {name,
          maker<GroupedLinear>(),
          {live(normal(Shape{rows, in}, 1), used), normal(Shape{groups, out, in}, 2), i64(std::move(offsets))},
          {used}};
}

OpCase activation(const char* name, kernels::Activation kind, int64_t rows, int64_t width, CaseInput offsets) {
  const int64_t used = offsets.integers.empty() ? rows : offsets.integers.back();
  const int64_t cols = kind == kernels::Activation::kSwiGlu ? 2 * width : width;
  return {
      name, maker<ExpertActivation>(kind), {live(normal(Shape{rows, cols}, 1, 2), used), std::move(offsets)}, {used}};
}

struct StackSizes {
  int64_t groups, in, out;
};

// By row, the columns of its group's stack; of a row without group, none.
std::vector<int64_t> columns_by_row(int64_t rows, const std::vector<int64_t>& offsets,
                                    const std::vector<StackSizes>& stacks, int64_t StackSizes::*columns) {
  std::vector<int64_t> result(static_cast<size_t>(rows), 0);
  size_t group = 0;
  for (const StackSizes& stack : stacks) {
    for (int64_t g = 0; g < stack.groups; ++g, ++group) {
      std::fill(result.begin() + offsets[group], result.begin() + offsets[group + 1], stack.*columns);
    }
  }
  return result;
}

// [rows, the most columns]; what means nothing is not a number.
CaseInput uneven(int64_t rows, int64_t used, std::vector<int64_t> columns, int64_t widest, double deviation) {
  CaseInput input = live(normal(Shape{rows, widest}, 1, deviation), used);
  for (int64_t i = 0; i < rows * widest; ++i) {
    const bool means = i % widest < columns[static_cast<size_t>(i / widest)];
    if (!means) input.reals[static_cast<size_t>(i)] = std::numeric_limits<double>::quiet_NaN();
  }
  input.columns = std::move(columns);
  return input;
}

int64_t widest(const std::vector<StackSizes>& stacks, int64_t StackSizes::*columns) {
  int64_t most = 0;
  for (const StackSizes& stack : stacks) most = std::max(most, stack.*columns);
  return most;
}

// `cells`: with two lanes, their offsets.
OpCase mixed(const char* name, int64_t rows, const std::vector<StackSizes>& stacks, const std::vector<int64_t>& offsets,
             const std::vector<int64_t>& cells = {}) {
  OpCase result{name, maker<GroupedLinear>(cells.empty() ? 1 : 2, stacks.size()), {}, {offsets.back()}};
  result.output_columns = columns_by_row(rows, offsets, stacks, &StackSizes::out);
  result.inputs.push_back(uneven(rows, offsets.back(), columns_by_row(rows, offsets, stacks, &StackSizes::in),
                                 widest(stacks, &StackSizes::in), 1));
  const auto weight = [&](size_t i) { return normal(Shape{stacks[i].groups, stacks[i].out, stacks[i].in}, 2 + i); };
  result.inputs.push_back(weight(0));
  result.inputs.push_back(i64(offsets));
  result.inputs.push_back(cells.empty() ? absent() : i64(cells));
  for (size_t i = 1; i < stacks.size(); ++i) result.inputs.push_back(weight(i));
  return result;
}

OpCase mixed_activation(const char* name, int64_t rows, const std::vector<ActivationStack>& kinds,
                        const std::vector<int64_t>& offsets) {
  std::vector<StackSizes> sizes;
  for (const ActivationStack& kind : kinds) sizes.push_back({kind.groups, kind.hidden(), kind.ffn});
  OpCase result{name, maker<ExpertActivation>(kinds), {}, {offsets.back()}};
  result.output_columns = columns_by_row(rows, offsets, sizes, &StackSizes::out);
  result.inputs = {uneven(rows, offsets.back(), columns_by_row(rows, offsets, sizes, &StackSizes::in),
                          widest(sizes, &StackSizes::in), 2),
                   i64(offsets)};
  return result;
}

struct Tokens {
  int64_t tokens, experts, k;
};

OpCase plan_case(const char* name, Tokens t, std::vector<int64_t> ids, int64_t capacity, kernels::DropPolicy policy) {
  const Shape shape{t.tokens, t.k};
  const int64_t rows = plan(ids, t.experts, capacity).rows();
  CaseInput weights = constant(normal(shape, 7));
  return {name,
          maker<PlanRows>(t.experts, capacity, policy),
          {i32(shape, std::move(ids)), std::move(weights)},
          {-1, -1, rows}};
}

// Of a part of the experts, with room for the rows alone.
OpCase part_of_plan(const char* name, Tokens t, std::vector<int64_t> ids, int64_t planned, int64_t capacity) {
  const Shape shape{t.tokens, t.k};
  const int64_t rows = plan(ids, planned, capacity).rows();
  CaseInput weights = constant(normal(shape, 7));
  return {name,
          maker<PlanRows>(planned, capacity, kernels::DropPolicy::kByPosition, kernels::PlanWhole{t.experts}, rows),
          {i32(shape, std::move(ids)), std::move(weights)},
          {}};
}

// Rows of a part of the experts, of as many slots as there are.
OpCase gather_part(const char* name, Tokens t, int64_t width, const std::vector<int64_t>& ids, int64_t planned) {
  Plan p = plan(ids, planned);
  p.slot_of_row.resize(static_cast<size_t>(p.rows()));
  return {name,
          maker<GatherRows>(),
          {normal(Shape{t.tokens, width}, 1), i32(Shape{p.rows()}, p.slot_of_row),
           i32(Shape{t.tokens * t.k}, p.row_of_slot), i64(p.offsets)},
          {}};
}

// Experts 0 and 1 compute; 2 copies, 3 gives nothing, 4 and 5 are constants.
OpCase simple(const char* name, int64_t tokens, int64_t k, int64_t width, bool base, std::vector<int64_t> ids) {
  using kernels::SimpleExperts;
  const kernels::SimpleExperts experts{2, {SimpleExperts::kCopy, SimpleExperts::kZero, 0, 1}};
  const CaseInput ones = f64(Shape{6}, {1, 1, 1, 1, 1, 1});
  const Shape x{tokens, width};
  return {name,
          [=] { return std::make_unique<autograd::SimpleExperts>(experts); },
          {normal(x, 1), i32(Shape{tokens, k}, std::move(ids)), normal(Shape{tokens, k}, 2, 0.5),
           base ? normal(x, 3) : absent(), normal(Shape{2, 3, width}, 4, 0.5), base ? ones : absent(),
           base ? ones : absent()},
          {}};
}

OpCase gather(const char* name, Tokens t, int64_t width, const std::vector<int64_t>& ids, int64_t capacity = -1) {
  const Plan p = plan(ids, t.experts, capacity);
  const Shape slots{t.tokens * t.k};
  return {name,
          maker<GatherRows>(),
          {normal(Shape{t.tokens, width}, 1), i32(slots, p.slot_of_row), i32(slots, p.row_of_slot), i64(p.offsets)},
          {p.rows()}};
}

OpCase permute(const char* name, int64_t rows, int64_t width, const std::vector<int64_t>& order) {
  const auto moved = static_cast<int64_t>(order.size());
  std::vector<int64_t> inverse(order.size());
  for (size_t i = 0; i < order.size(); ++i) inverse[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  return {name,
          maker<PermuteRows>(),
          {live(normal(Shape{rows, width}, 1), moved), i32(Shape{moved}, order), i32(Shape{moved}, inverse)},
          {}};
}

OpCase combine(const char* name, Tokens t, int64_t width, const std::vector<int64_t>& ids, bool base,
               int64_t capacity = -1) {
  const Plan p = plan(ids, t.experts, capacity);
  const Shape slots{t.tokens * t.k}, out{t.tokens, width};
  return {name,
          maker<CombineRows>(),
          {live(normal(Shape{t.tokens * t.k, width}, 1), p.rows()), i32(slots, p.row_of_slot),
           normal(Shape{t.tokens, t.k}, 2, 0.5), base ? normal(out, 3) : absent()},
          {}};
}

constexpr Tokens kOne{1, 1, 1}, kFew{5, 4, 2}, kMany{131, 11, 3}, kNone{0, 4, 2};
const std::vector<int64_t>& few() {
  static const std::vector<int64_t> ids = {0, 2, 2, 0, 3, 2, 0, 3, 2, 3};  // expert 1 is empty
  return ids;
}
std::vector<int64_t> many() { return random_choices(131, 11, 3, 5); }
std::vector<StackSizes> many_sizes() {
  std::vector<StackSizes> stacks;
  for (int64_t i = 0; i < 35; ++i) stacks.push_back({1, 1 + i % 3, 1 + i % 4});
  return stacks;
}
std::vector<int64_t> every_row(int64_t groups) {
  std::vector<int64_t> offsets(static_cast<size_t>(groups) + 1);
  std::iota(offsets.begin(), offsets.end(), 0);
  return offsets;
}
std::vector<int64_t> all_to_one() { return std::vector<int64_t>(13, 2); }

}  // namespace

template <>
std::vector<OpCase> cases<GroupedLinear>() {
  return {linear("one element", 1, 1, 1),
          linear("primes", 5, 7, 3),
          linear("past a vector", 37, 67, 41),
          linear("no rows", 0, 5, 3),
          grouped("empty groups", 7, 5, 3, {0, 0, 4, 4, 7}),
          grouped("one group has all", 13, 7, 5, {0, 0, 13, 13}),
          grouped("spare rows", 11, 5, 7, {0, 3, 3, 8}),
          grouped("no rows in any group", 4, 3, 5, {0, 0, 0}),
          grouped("grouped past a vector", 61, 37, 35, {0, 1, 30, 30, 59}),
          mixed("two sizes", 9, {{1, 3, 5}, {2, 7, 2}}, {0, 4, 4, 9}),
          mixed("three sizes, one without rows", 13, {{2, 5, 3}, {1, 2, 9}, {1, 6, 3}}, {0, 3, 7, 7, 11}),
          mixed("sizes without rows", 4, {{1, 2, 3}, {1, 3, 2}}, {0, 0, 0}),
          mixed("sizes with lanes", 10, {{1, 4, 3}, {1, 2, 5}, {1, 4, 5}}, {0, 4, 5, 9}, {0, 1, 4, 4, 5, 7, 9}),
          mixed("sizes past a vector", 97, {{2, 37, 67}, {1, 70, 35}, {1, 5, 41}}, {0, 31, 31, 60, 95}),
          mixed("more sizes than bits in a mask", 40, many_sizes(), every_row(35))};
}

template <>
std::vector<OpCase> cases<ExpertActivation>() {
  using enum kernels::Activation;
  return {activation("swiglu of one", kSwiGlu, 1, 1, absent()),
          activation("swiglu", kSwiGlu, 5, 7, absent()),
          activation("swiglu past a vector", kSwiGlu, 67, 67, absent()),
          activation("swiglu with spare rows", kSwiGlu, 9, 5, i64({0, 2, 2, 6})),
          activation("swiglu without rows", kSwiGlu, 0, 5, absent()),
          activation("gelu of one", kGelu, 1, 1, absent()),
          activation("gelu", kGelu, 5, 7, absent()),
          activation("gelu past a vector", kGelu, 67, 67, absent()),
          activation("gelu with spare rows", kGelu, 9, 5, i64({0, 6, 6})),
          activation("gelu of unused experts", kGelu, 3, 5, i64({0, 0})),
          mixed_activation("two widths", 9, {{kSwiGlu, 1, 3}, {kSwiGlu, 2, 5}}, {0, 4, 4, 9}),
          mixed_activation("kinds and widths", 14, {{kGelu, 1, 7}, {kSwiGlu, 2, 3}, {kGelu, 1, 2}}, {0, 3, 6, 9, 12}),
          mixed_activation("kinds without rows", 3, {{kGelu, 1, 4}, {kSwiGlu, 1, 2}}, {0, 0, 0}),
          mixed_activation("kinds past a vector", 99, {{kSwiGlu, 1, 67}, {kGelu, 2, 70}, {kSwiGlu, 1, 35}},
                           {0, 31, 31, 62, 97})};
}

template <>
std::vector<OpCase> cases<PlanRows>() {
  using enum kernels::DropPolicy;
  return {plan_case("one token", kOne, {0}, -1, kByScore),
          plan_case("dropless", kMany, many(), -1, kByScore),
          plan_case("empty expert", kFew, few(), -1, kByPosition),
          plan_case("drop by score", kFew, few(), 2, kByScore),
          plan_case("drop by position", kFew, few(), 2, kByPosition),
          plan_case("drop many by score", kMany, many(), 7, kByScore),
          plan_case("all to one expert", {13, 4, 1}, all_to_one(), 5, kByScore),
          plan_case("nothing kept", kFew, few(), 0, kByPosition),
          part_of_plan("some experts", kMany, many(), 7, -1),
          part_of_plan("some experts, full", kMany, many(), 7, 9),
          plan_case("no tokens", kNone, {}, -1, kByScore)};
}

template <>
std::vector<OpCase> cases<GatherRows>() {
  return {gather("one token", kOne, 1, {0}),
          gather("empty expert", kFew, 7, few()),
          gather("dropped slots", kFew, 7, few(), 2),
          gather("past a vector", kMany, 67, many()),
          gather("all to one expert", {13, 4, 1}, 5, all_to_one()),
          gather("nothing kept", kFew, 3, few(), 0),
          gather_part("some experts", kMany, 7, many(), 7),
          gather("no tokens", kNone, 5, {})};
}

template <>
std::vector<OpCase> cases<PermuteRows>() {
  std::vector<int64_t> strides(67);
  for (size_t i = 0; i < strides.size(); ++i) strides[i] = static_cast<int64_t>(i * 5 % strides.size());
  return {permute("one row", 1, 1, {0}), permute("rows in circles", 5, 7, {3, 0, 4, 1, 2}),
          permute("spare rows", 9, 3, {2, 1, 0}), permute("past a vector", 67, 37, strides),
          permute("no rows", 4, 5, {})};
}

template <>
std::vector<OpCase> cases<CombineRows>() {
  return {combine("one token", kOne, 1, {0}, false),
          combine("empty expert", kFew, 7, few(), false),
          combine("on a base", kFew, 7, few(), true),
          combine("dropped slots", kFew, 7, few(), true, 2),
          combine("past a vector", kMany, 67, many(), true),
          combine("all to one expert", {13, 4, 1}, 5, all_to_one(), false, 5),
          combine("nothing kept", kFew, 3, few(), true, 0),
          combine("more experts than are combined at once", {5, 131, 131}, 9, random_choices(5, 131, 131, 6), true),
          combine("no tokens", kNone, 5, {}, false)};
}

template <>
std::vector<OpCase> cases<SimpleExperts>() {
  return {simple("each alone", 6, 1, 5, false, {0, 1, 2, 3, 4, 5}),
          simple("on a base", 5, 2, 7, true, {2, 4, 0, 5, 3, 2, 5, 4, -1, 2}),
          simple("past a vector", 131, 3, 67, true, random_choices(131, 6, 3, 9)),
          simple("no tokens", 0, 2, 5, true, {})};
}

}  // namespace cadre::autograd::testing
