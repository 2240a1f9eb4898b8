#include "kernels/permute.h"

#include "core/error.h"
#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

struct Plan {
  Tensor offsets, row_of_slot, slot_of_row;
};

Plan plan(const Exec& exec, const Tensor& ids, TensorView weights, int64_t experts, int64_t capacity = -1,
          DropPolicy policy = DropPolicy::kByPosition) {
  Plan result{zeros(Dtype::kI64, {experts + 1}), zeros(Dtype::kI32, {ids.elements()}),
              zeros(Dtype::kI32, {ids.elements()})};
  fill(exec, result.slot_of_row, -7);
  plan_rows(exec, ids, weights, experts, capacity, policy, result.offsets, result.row_of_slot, result.slot_of_row);
  return result;
}

// Every token chooses different experts, every seventh one fewer; tokens of the first third all choose expert 0 first
// (skew).
Tensor chosen_ids(int64_t tokens, int64_t k, int64_t experts) {
  Tensor ids = random_ids({tokens, k}, experts, 11);
  for (int64_t t = 0; t < tokens; ++t) {
    int32_t* row = ids.data<int32_t>() + t * k;
    if (t < tokens / 3) row[0] = 0;
    for (int64_t j = 1; j < k; ++j) row[j] = static_cast<int32_t>((row[0] + j) % experts);
    if (t % 7 == 3) row[k - 1] = -1;
  }
  return ids;
}

TEST(PlanRows, HandChecked) {
  for_each_isa([](const Exec& exec) {
    const Tensor ids = tensor_of<int32_t>({3, 2}, {2, 0, 0, 2, 2, 3});
    const Plan p = plan(exec, ids, {}, 4);
    EXPECT_EQ(values_of<int64_t>(p.offsets), (std::vector<int64_t>{0, 2, 2, 5, 6}));
    EXPECT_EQ(values_of<int32_t>(p.slot_of_row), (std::vector<int32_t>{1, 2, 0, 3, 4, 5}));
    EXPECT_EQ(values_of<int32_t>(p.row_of_slot), (std::vector<int32_t>{2, 0, 1, 3, 4, 5}));
  });
}

TEST(PlanRows, CapacityByPositionAndByScore) {
  for_each_isa([](const Exec& exec) {
    const Tensor ids = tensor_of<int32_t>({5, 1}, {1, 1, 0, 1, 1});
    const Tensor weights = tensor_of<float>({5, 1}, {0.5f, 0.9f, 0.1f, 0.5f, 0.5f});
    const Plan first = plan(exec, ids, weights, 2, 2, DropPolicy::kByPosition);
    EXPECT_EQ(values_of<int64_t>(first.offsets), (std::vector<int64_t>{0, 1, 3}));
    EXPECT_EQ(values_of<int32_t>(first.row_of_slot), (std::vector<int32_t>{1, 2, 0, -1, -1}));
    // 0.9 and, among the equal 0.5, the first token; rows stay in token order; nothing past the last row is written.
    const Plan best = plan(exec, ids, weights, 2, 2, DropPolicy::kByScore);
    EXPECT_EQ(values_of<int32_t>(best.row_of_slot), (std::vector<int32_t>{1, 2, 0, -1, -1}));
    EXPECT_EQ(values_of<int32_t>(best.slot_of_row), (std::vector<int32_t>{2, 0, 1, -7, -7}));
    const Plan one = plan(exec, ids, weights, 2, 1, DropPolicy::kByScore);
    EXPECT_EQ(values_of<int32_t>(one.row_of_slot), (std::vector<int32_t>{-1, 1, 0, -1, -1}));
    for (DropPolicy policy : {DropPolicy::kByScore, DropPolicy::kByPosition}) {
      const Plan none = plan(exec, ids, weights, 2, 0, policy);
      EXPECT_EQ(values_of<int64_t>(none.offsets), (std::vector<int64_t>{0, 0, 0}));
      EXPECT_EQ(values_of<int32_t>(none.row_of_slot), (std::vector<int32_t>(5, -1)));
    }
  });
}

// Sizes on both sides of the bound from which threads share the work; f64 weights take the reference.
TEST(PlanRows, MatchesTheReference) {
  for (int64_t tokens : {0, 1, 100, 12007}) {
    for (int64_t experts : {3, 130}) {
      for (int64_t capacity : {int64_t{-1}, int64_t{0}, int64_t{1}, tokens / 5, tokens}) {
        for (DropPolicy policy : {DropPolicy::kByScore, DropPolicy::kByPosition}) {
          const Tensor ids = chosen_ids(tokens, 3, experts);
          compare_with_reference(
              [&](const Exec& exec, Dtype dtype) {
                Tensor weights = zeros(dtype, {tokens, 3});  // few distinct values: many ties
                const Tensor draws = random_ids({tokens, 3}, 5, 12);
                for (int64_t i = 0; i < weights.elements(); ++i) {
                  const int32_t draw = draws.data<int32_t>()[i];
                  if (dtype == Dtype::kF64) weights.data<double>()[i] = draw;
                  if (dtype == Dtype::kF32) weights.data<float>()[i] = static_cast<float>(draw);
                }
                const Plan p = plan(exec, ids, weights, experts, capacity, policy);
                return std::vector<Tensor>{p.offsets, p.row_of_slot, p.slot_of_row};
              },
              0,
              std::to_string(tokens) + " tokens, " + std::to_string(experts) + " experts, capacity " +
                  std::to_string(capacity));
        }
      }
    }
  }
}

TEST(PlanRows, NanWeightsAreDroppedFirst) {
  for_each_isa([](const Exec& exec) {
    const Tensor ids = tensor_of<int32_t>({4, 1}, {0, 0, 0, 0});
    const Tensor weights = tensor_of<float>({4, 1}, {std::nanf(""), 0.1f, std::nanf(""), 0.2f});
    const Plan p = plan(exec, ids, weights, 1, 2, DropPolicy::kByScore);
    EXPECT_EQ(values_of<int32_t>(p.row_of_slot), (std::vector<int32_t>{-1, 0, -1, 1}));
  });
}

TEST(PlanRows, RefusesAnIdOutOfRange) {
  for_each_isa([](const Exec& exec) {
    for (int32_t bad : {-2, 4}) {
      try {
        plan(exec, tensor_of<int32_t>({2, 2}, {0, 1, 2, bad}), {}, 4);
        ADD_FAILURE() << "id " << bad << " was accepted";
      } catch (const InternalError& error) {
        EXPECT_EQ(std::string(error.what()),
                  "plan_rows: expert id " + std::to_string(bad) + " of token 1, wanted 0..3 or -1");
      }
    }
  });
}

struct Case {
  int64_t tokens;
  int64_t k;
  int64_t experts;
  int64_t width;
  int64_t capacity;
};
const std::vector<Case> kCases = {{0, 2, 4, 8, -1},   {1, 1, 3, 1, -1},    {5, 2, 1 + 4, 17, -1}, {40, 3, 5, 33, 9},
                                  {64, 2, 8, 256, 0}, {33, 7, 16, 100, 4}, {700, 4, 8, 50, -1}};

TEST(Permute, MatchesTheReference) {
  for (const Case& c : kCases) {
    compare_with_reference(
        [&](const Exec& exec, Dtype dtype) {
          const Tensor ids = chosen_ids(c.tokens, c.k, c.experts);
          const Tensor weights = random_tensor(dtype, {c.tokens, c.k}, 1);
          const Plan p = plan(exec, ids, weights, c.experts, c.capacity, DropPolicy::kByScore);
          const Shape rows{c.tokens * c.k, c.width}, tokens{c.tokens, c.width};
          const Tensor x = random_tensor(dtype, tokens, 2), y = random_tensor(dtype, rows, 3);
          const Tensor dout = random_tensor(dtype, tokens, 4), drows = random_tensor(dtype, rows, 5);
          Tensor gathered = random_tensor(dtype, rows, 6), dx = zeros(dtype, tokens);
          Tensor dx_added = random_tensor(dtype, tokens, 7), out = zeros(dtype, tokens);
          Tensor out_added = random_tensor(dtype, tokens, 8), dy = random_tensor(dtype, rows, 9);
          Tensor dweights = random_tensor(dtype, weights.shape(), 10);
          gather_rows(exec, x, p.slot_of_row, p.offsets, c.k, gathered);
          gather_rows_backward(exec, drows, p.row_of_slot, c.k, dx, Write::kOverwrite);
          gather_rows_backward(exec, drows, p.row_of_slot, c.k, dx_added, Write::kAccumulate);
          combine_rows(exec, y, p.row_of_slot, weights, out, Write::kOverwrite);
          combine_rows(exec, y, p.row_of_slot, weights, out_added, Write::kAccumulate);
          combine_rows_backward(exec, y, p.row_of_slot, weights, dout, dy, dweights);
          return std::vector<Tensor>{gathered, dx, dx_added, out, out_added, dy, dweights};
        },
        1e-5, std::to_string(c.tokens) + " tokens, top " + std::to_string(c.k) + ", width " + std::to_string(c.width));
  }
}

// One token in three is dropped: rows past the last are neither read (NaN) nor written.
TEST(Permute, TouchesNoRowPastTheLast) {
  for_each_isa([](const Exec& exec) {
    const Tensor ids = tensor_of<int32_t>({3, 1}, {0, 0, 0});
    const Plan p = plan(exec, ids, {}, 2, 2, DropPolicy::kByPosition);
    const Tensor x = random_tensor(Dtype::kF32, {3, 5}, 1);
    Tensor rows = zeros(Dtype::kF32, {3, 5}), out = zeros(Dtype::kF32, {3, 5});
    fill(exec, rows, std::nan(""));
    fill(exec, out, 4);
    gather_rows(exec, x, p.slot_of_row, p.offsets, 1, rows);
    EXPECT_EQ(rows.data<float>()[9], x.data<float>()[9]);
    for (int64_t i = 10; i < 15; ++i) EXPECT_TRUE(std::isnan(rows.data<float>()[i]));
    combine_rows(exec, rows, p.row_of_slot, tensor_of<float>({3, 1}, {1, 1, 1}), out, Write::kOverwrite);
    for (int64_t i = 0; i < 15; ++i) EXPECT_EQ(out.data<float>()[i], i < 10 ? x.data<float>()[i] : 0) << i;
  });
}

TEST(Permute, GradientsAgreeWithFiniteDifferences) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const int64_t tokens = 4, k = 2, width = 3;
  const Tensor weights = random_tensor(Dtype::kF64, {tokens, k}, 1);
  const Plan p = plan(exec, chosen_ids(tokens, k, 3), weights, 3, 2, DropPolicy::kByScore);
  const Tensor x = random_tensor(Dtype::kF64, {tokens, width}, 2);
  const Tensor dout = random_tensor(Dtype::kF64, {tokens, width}, 3);
  Tensor y = zeros(Dtype::kF64, {tokens * k, width}), out = zeros(Dtype::kF64, {tokens, width});
  const auto value = [&] {
    gather_rows(exec, x, p.slot_of_row, p.offsets, k, y);
    combine_rows(exec, y, p.row_of_slot, weights, out, Write::kOverwrite);
    return dot(out, dout);
  };
  value();
  Tensor dy = zeros(Dtype::kF64, y.shape()), dx = zeros(Dtype::kF64, x.shape()),
         dw = zeros(Dtype::kF64, weights.shape());
  combine_rows_backward(exec, y, p.row_of_slot, weights, dout, dy, dw);
  gather_rows_backward(exec, dy, p.row_of_slot, k, dx, Write::kOverwrite);
  expect_gradient(x, dx, value, 1e-8, "x");
  expect_gradient(weights, dw, value, 1e-8, "weights");
}

}  // namespace
}  // namespace cadre::kernels
