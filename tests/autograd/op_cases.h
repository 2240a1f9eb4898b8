#pragma once
// The cases of each op: the one list that finite differences, FP32 against FP64, accumulation, recompute, determinism
// and benchmarks run over. tests/autograd/ops/*_cases.cpp define cases<Op>() for every op of autograd/ops/list.h; an op
// without cases does not link.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/op.h"
#include "autograd/ops/list.h"

namespace cadre::autograd::testing {

// One input of an op. Reals become tensors of the dtype under test; each is a value that f32 holds exactly.
struct CaseInput {
  enum class Kind { kAbsent, kReal, kF64, kI32, kI64 };
  Kind kind = Kind::kAbsent;
  Shape shape;
  bool differentiable = false;
  std::vector<double> reals{};      // kReal and kF64 (f64 in every run)
  std::vector<int64_t> integers{};  // kI32 and kI64
  int64_t live = -1;                // extent of the first axis whose gradient is defined; -1: all
  std::vector<int64_t> columns{};   // by row: the first columns that mean something; none: all
};

struct OpCase {
  std::string name;
  std::function<std::unique_ptr<Op>()> make;
  std::vector<CaseInput> inputs;
  std::vector<int64_t> output_live;       // by output: extent of the first axis that is written; missing or -1: all
  std::vector<int64_t> output_columns{};  // of the first output, by row: the first columns that are written; none: all
  double f32_tolerance = 2e-5;            // of f32 against f64, relative to an output's or gradient's largest element
};

template <class O>
std::vector<OpCase> cases();

// Makers of inputs. Random ones depend on `stream` alone.
CaseInput absent();
CaseInput normal(Shape shape, uint64_t stream, double deviation = 1, double mean = 0);
CaseInput constant(CaseInput input);  // without gradient
CaseInput f64(Shape shape, std::vector<double> values);
CaseInput i32(Shape shape, std::vector<int64_t> values);
CaseInput i64(std::vector<int64_t> values);
std::vector<int64_t> random_below(int64_t count, int64_t bound, uint64_t stream);
// k different experts for each token.
std::vector<int64_t> random_choices(int64_t tokens, int64_t experts, int64_t k, uint64_t stream);

// What PlanRows makes of these choices when the first `capacity` of each expert stay (-1: all).
struct Plan {
  std::vector<int64_t> offsets, row_of_slot, slot_of_row;
  int64_t rows() const { return offsets.back(); }
};
Plan plan(const std::vector<int64_t>& ids, int64_t experts, int64_t capacity = -1);

template <class O, class... Attributes>
std::function<std::unique_ptr<Op>()> maker(Attributes... attributes) {
  return [=] { return std::make_unique<O>(attributes...); };
}

// visit(case) for every case of every op.
template <class... Ops, class F>
void for_each_case(OpList<Ops...>, F&& visit) {
  const auto visit_all = [&](const std::vector<OpCase>& list) {
    for (const OpCase& op_case : list) visit(op_case);
  };
  (visit_all(cases<Ops>()), ...);
}

}  // namespace cadre::autograd::testing
