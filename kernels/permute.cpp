#include "kernels/permute.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/cpu/permute.h"
#include "kernels/elementwise.h"
#include "kernels/reference/permute.h"

namespace cadre::kernels {
namespace {

using cpu::Rows;

constexpr int64_t kGrain = 8192;

Rows rows_of(const TensorView& view) { return view ? Rows{view.as<float>(), view.row_stride} : Rows{nullptr, 0}; }

int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols)); }

bool is_vector(const TensorView& view, int64_t elements) {
  return view.shape.elements() == elements && view.contiguous();
}

void combine(const Exec& exec, const char* op, TensorView y, TensorView row_of_slot, TensorView weights, int64_t k,
             TensorView out, Write write) {
  const bool accumulate = write == Write::kAccumulate;
  require(y.cols() == out.cols() && k >= 1 && is_vector(row_of_slot, out.rows() * k), op,
          {y, row_of_slot, weights, out});
  if (exec.dry) return;
  if (wants_reference(op, {y, weights, out})) {
    return reference::combine_rows(y, row_of_slot, weights, k, out, accumulate);
  }
  const cpu::PermuteTable& table = CADRE_SIMD_SELECT(exec.isa, kPermuteTable);
  const cpu::CombineForward task{rows_of(y),
                                 row_of_slot.as<int32_t>(),
                                 weights ? weights.as<float>() : nullptr,
                                 rows_of(out),
                                 accumulate,
                                 out.cols(),
                                 k};
  parallel_for(exec.threads, out.rows(), row_grain(out.cols()),
               [&](int64_t begin, int64_t end) { table.combine(task, begin, end); });
}

// What a dry run takes for granted: every expert is chosen alike.
void plan_evenly(PlanWhole whole, int64_t experts, int64_t capacity, int64_t* offsets) {
  offsets[0] = 0;
  for (int64_t expert = 0; expert < experts; ++expert) {
    const int64_t share = whole.choices * (expert + 1) / whole.experts - whole.choices * expert / whole.experts;
    offsets[expert + 1] = offsets[expert] + (capacity >= 0 ? std::min(share, capacity) : share);
  }
}

}  // namespace

void plan_rows(const Exec& exec, TensorView ids, TensorView weights, int64_t experts, int64_t capacity,
               DropPolicy policy, TensorView offsets, TensorView row_of_slot, TensorView slot_of_row, PlanWhole whole) {
  const char* op = "plan_rows";
  const int64_t slots = ids.shape.elements();
  if (whole.experts < 0) whole.experts = experts;
  if (whole.choices < 0) whole.choices = slots;
  const bool weighs = capacity >= 0 && policy == DropPolicy::kByScore;
  require(ids.contiguous() && is_vector(offsets, experts + 1) && is_vector(row_of_slot, slots) &&
              slot_of_row.contiguous() && slot_of_row.shape.elements() <= slots &&
              slots <= std::numeric_limits<int32_t>::max() && experts <= whole.experts &&
              (!weighs || is_vector(weights, slots)),
          op, {ids, weights, offsets, row_of_slot, slot_of_row});
  if (exec.dry) return plan_evenly(whole, experts, capacity, offsets.as<int64_t>());
  const bool has_weights = weighs && static_cast<bool>(weights);
  if (has_weights && wants_reference(op, {weights})) {
    return reference::plan_rows(ids, weights, experts, capacity, policy, offsets, row_of_slot, slot_of_row);
  }
  const cpu::RowPlan plan{ids.as<int32_t>(),
                          has_weights ? weights.as<float>() : nullptr,
                          ids.rows(),
                          ids.cols(),
                          experts,
                          whole.experts,
                          capacity,
                          policy,
                          offsets.as<int64_t>(),
                          row_of_slot.as<int32_t>(),
                          slot_of_row.as<int32_t>()};
  cpu::plan_rows(exec.threads, plan);
}

void gather_rows(const Exec& exec, TensorView x, TensorView slot_of_row, TensorView offsets, int64_t k,
                 TensorView out) {
  const char* op = "gather_rows";
  require(x.cols() == out.cols() && k >= 1 && offsets.shape.elements() >= 1, op, {x, slot_of_row, offsets, out});
  const int64_t rows = offsets.as<int64_t>()[offsets.shape.elements() - 1];
  require(rows <= out.rows() && rows <= slot_of_row.shape.elements(), op, {x, slot_of_row, offsets, out});
  if (exec.dry) return;
  if (wants_reference(op, {x, out})) return reference::gather_rows(x, slot_of_row, rows, k, out);
  const Rows from = rows_of(x);
  const Rows to = rows_of(out);
  const int32_t* slots = slot_of_row.as<int32_t>();
  const size_t bytes = static_cast<size_t>(x.cols()) * sizeof(float);
  parallel_for(exec.threads, rows, row_grain(x.cols()), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(to.data + r * to.stride, from.data + slots[r] / k * from.stride, bytes);
  });
}

void gather_rows_backward(const Exec& exec, TensorView dout, TensorView row_of_slot, int64_t k, TensorView dx,
                          Write write) {
  combine(exec, "gather_rows_backward", dout, row_of_slot, {}, k, dx, write);
}

void combine_rows(const Exec& exec, TensorView y, TensorView row_of_slot, TensorView weights, TensorView out,
                  Write write) {
  require(is_vector(weights, row_of_slot.shape.elements()) && weights.rows() == out.rows(), "combine_rows",
          {y, row_of_slot, weights, out});
  combine(exec, "combine_rows", y, row_of_slot, weights, weights.cols(), out, write);
}

void combine_rows_backward(const Exec& exec, TensorView y, TensorView row_of_slot, TensorView weights, TensorView dout,
                           TensorView dy, TensorView dweights) {
  const char* op = "combine_rows_backward";
  const int64_t slots = weights.shape.elements();
  require(y.cols() == dout.cols() && y.cols() == dy.cols() && y.rows() == dy.rows() && weights.rows() == dout.rows() &&
              is_vector(weights, slots) && is_vector(dweights, slots) && is_vector(row_of_slot, slots),
          op, {y, row_of_slot, weights, dout, dy, dweights});
  if (exec.dry) return;
  if (wants_reference(op, {y, weights, dout, dy, dweights})) {
    return reference::combine_rows_backward(y, row_of_slot, weights, dout, dy, dweights);
  }
  const cpu::PermuteTable& table = CADRE_SIMD_SELECT(exec.isa, kPermuteTable);
  const cpu::CombineBackward task{rows_of(y),
                                  row_of_slot.as<int32_t>(),
                                  weights.as<float>(),
                                  rows_of(dout),
                                  rows_of(dy),
                                  dweights.as<float>(),
                                  y.cols(),
                                  weights.cols()};
  parallel_for(exec.threads, dout.rows(), row_grain(y.cols()),
               [&](int64_t begin, int64_t end) { table.combine_backward(task, begin, end); });
}

}  // namespace cadre::kernels
