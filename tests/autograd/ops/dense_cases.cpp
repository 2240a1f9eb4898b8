// Embedding, norms, residual add and the loss.

#include "tests/autograd/op_cases.h"

namespace cadre::autograd::testing {
namespace {

struct Extents {
  const char* name;
  int64_t rows, cols;
};

constexpr Extents kExtents[] = {{"one element", 1, 1}, {"one row", 1, 19},         {"one column", 7, 1},
                                {"primes", 5, 7},      {"past a vector", 131, 67}, {"no rows", 0, 5}};

}  // namespace

template <>
std::vector<OpCase> cases<Embedding>() {
  const auto make = [](const char* name, int64_t tokens, int64_t vocabulary, int64_t width) {
    return OpCase{name,
                  maker<Embedding>(),
                  {i32(Shape{tokens}, random_below(tokens, vocabulary, 1)), normal(Shape{vocabulary, width}, 2)},
                  {}};
  };
  return {make("one token", 1, 3, 1),        make("repeated tokens", 13, 7, 17), make("unused rows", 5, 31, 3),
          make("past a vector", 41, 11, 67), make("one row", 11, 1, 5),          make("no tokens", 0, 5, 3)};
}

template <>
std::vector<OpCase> cases<RmsNorm>() {
  std::vector<OpCase> list;
  for (const auto& [name, rows, cols] : kExtents) {
    list.push_back({name, maker<RmsNorm>(1e-5), {normal(Shape{rows, cols}, 1), normal(Shape{cols}, 2, 0.5, 1)}, {}});
  }
  list.push_back(
      {"eps dominates", maker<RmsNorm>(0.5), {normal(Shape{3, 5}, 1, 0.125), normal(Shape{5}, 2, 0.5, 1)}, {}});
  return list;
}

template <>
std::vector<OpCase> cases<AddRmsNorm>() {
  std::vector<OpCase> list;
  for (const auto& [name, rows, cols] : kExtents) {
    const Shape shape{rows, cols};
    list.push_back(
        {name, maker<AddRmsNorm>(1e-5), {normal(shape, 1), normal(shape, 2), normal(Shape{cols}, 3, 0.5, 1)}, {}});
  }
  return list;
}

template <>
std::vector<OpCase> cases<Add>() {
  std::vector<OpCase> list;
  for (const auto& [name, rows, cols] : kExtents) {
    list.push_back({name, maker<Add>(), {normal(Shape{rows, cols}, 1), normal(Shape{rows, cols}, 2)}, {}});
  }
  return list;
}

template <>
std::vector<OpCase> cases<CrossEntropy>() {
  const auto make = [](const char* name, int64_t vocabulary, std::vector<int64_t> targets, double deviation) {
    const auto tokens = static_cast<int64_t>(targets.size());
    return OpCase{name,
                  maker<CrossEntropy>(0.375),
                  {normal(Shape{tokens, vocabulary}, 1, deviation), i32(Shape{tokens}, std::move(targets))},
                  {}};
  };
  return {make("one token", 2, {1}, 1),        make("ignored tokens", 7, {3, -1, 0, 6, -100}, 2),
          make("all ignored", 5, {-1, -1}, 1), make("past a vector", 131, random_below(67, 131, 2), 3),
          make("one word", 1, {0, 0, 0}, 1),   make("no tokens", 5, {}, 1)};
}

}  // namespace cadre::autograd::testing
