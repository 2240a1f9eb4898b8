#include "tests/autograd/op_cases.h"

#include <algorithm>
#include <numeric>

#include "core/rng.h"

namespace cadre::autograd::testing {

CaseInput absent() { return {}; }

CaseInput normal(Shape shape, uint64_t stream, double deviation, double mean) {
  CaseInput input{.kind = CaseInput::Kind::kReal, .shape = shape, .differentiable = true};
  Rng rng(11, RngPurpose::kTest, stream);
  for (int64_t i = 0; i < shape.elements(); ++i) {
    input.reals.push_back(static_cast<float>(mean + deviation * rng.normal()));
  }
  return input;
}

CaseInput constant(CaseInput input) {
  input.differentiable = false;
  return input;
}

CaseInput f64(Shape shape, std::vector<double> values) {
  return {.kind = CaseInput::Kind::kF64, .shape = shape, .reals = std::move(values)};
}

CaseInput i32(Shape shape, std::vector<int64_t> values) {
  return {.kind = CaseInput::Kind::kI32, .shape = shape, .integers = std::move(values)};
}

CaseInput i64(std::vector<int64_t> values) {
  const Shape shape{static_cast<int64_t>(values.size())};
  return {.kind = CaseInput::Kind::kI64, .shape = shape, .integers = std::move(values)};
}

std::vector<int64_t> random_below(int64_t count, int64_t bound, uint64_t stream) {
  Rng rng(12, RngPurpose::kTest, stream);
  std::vector<int64_t> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<int64_t>(rng.below(static_cast<uint64_t>(bound))));
  return values;
}

std::vector<int64_t> random_choices(int64_t tokens, int64_t experts, int64_t k, uint64_t stream) {
  Rng rng(13, RngPurpose::kTest, stream);
  std::vector<int64_t> choices, order(static_cast<size_t>(experts));
  for (int64_t t = 0; t < tokens; ++t) {
    std::iota(order.begin(), order.end(), 0);
    for (int64_t j = 0; j < k; ++j) {
      const auto other = j + static_cast<int64_t>(rng.below(static_cast<uint64_t>(experts - j)));
      std::swap(order[static_cast<size_t>(j)], order[static_cast<size_t>(other)]);
      choices.push_back(order[static_cast<size_t>(j)]);
    }
  }
  return choices;
}

Plan plan(const std::vector<int64_t>& ids, int64_t experts, int64_t capacity) {
  Plan result{{0}, std::vector<int64_t>(ids.size(), -1), {}};
  for (int64_t expert = 0; expert < experts; ++expert) {
    int64_t kept = 0;
    for (size_t slot = 0; slot < ids.size(); ++slot) {
      if (ids[slot] != expert || (capacity >= 0 && kept == capacity)) continue;
      result.row_of_slot[slot] = static_cast<int64_t>(result.slot_of_row.size());
      result.slot_of_row.push_back(static_cast<int64_t>(slot));
      ++kept;
    }
    result.offsets.push_back(static_cast<int64_t>(result.slot_of_row.size()));
  }
  result.slot_of_row.resize(ids.size(), 0);
  return result;
}

}  // namespace cadre::autograd::testing
