#include "kernels/reference/permute.h"

#include <algorithm>
#include <vector>

#include "kernels/reference/elementwise.h"

namespace cadre::reference {

void plan_rows(TensorView ids, TensorView weights, int64_t experts, int64_t capacity, kernels::DropPolicy policy,
               TensorView offsets, TensorView row_of_slot, TensorView slot_of_row) {
  const int64_t slots = ids.rows() * ids.cols();
  std::vector<std::vector<int32_t>> slots_of(static_cast<size_t>(experts));
  for (int64_t slot = 0; slot < slots; ++slot) {
    const int32_t id = ids.as<int32_t>()[slot];
    if (id >= 0 && id < experts) slots_of[static_cast<size_t>(id)].push_back(static_cast<int32_t>(slot));
  }
  std::fill_n(row_of_slot.as<int32_t>(), slots, -1);
  int64_t row = 0;
  for (int64_t expert = 0; expert < experts; ++expert) {
    offsets.as<int64_t>()[expert] = row;
    std::vector<int32_t>& kept = slots_of[static_cast<size_t>(expert)];
    if (capacity >= 0 && static_cast<int64_t>(kept.size()) > capacity) {
      if (policy == kernels::DropPolicy::kByScore) {
        const double* w = weights.as<double>();
        std::stable_sort(kept.begin(), kept.end(), [&](int32_t a, int32_t b) { return w[a] > w[b]; });
      }
      kept.resize(static_cast<size_t>(capacity));
      std::sort(kept.begin(), kept.end());
    }
    for (int32_t slot : kept) {
      slot_of_row.as<int32_t>()[row] = slot;
      row_of_slot.as<int32_t>()[slot] = static_cast<int32_t>(row++);
    }
  }
  offsets.as<int64_t>()[experts] = row;
}

void gather_rows(TensorView x, TensorView slot_of_row, int64_t rows, int64_t k, TensorView out) {
  for (int64_t r = 0; r < rows; ++r) std::copy_n(row(x, slot_of_row.as<int32_t>()[r] / k), x.cols(), row(out, r));
}

void combine_rows(TensorView y, TensorView row_of_slot, TensorView weights, int64_t k, TensorView out,
                  bool accumulate) {
  for (int64_t t = 0; t < out.rows(); ++t) {
    for (int64_t c = 0; c < out.cols(); ++c) {
      double total = 0;
      for (int64_t slot = t * k; slot < (t + 1) * k; ++slot) {
        const int32_t r = row_of_slot.as<int32_t>()[slot];
        if (r >= 0) total += (weights ? weights.as<double>()[slot] : 1.0) * row(y, r)[c];
      }
      row(out, t)[c] = accumulate ? row(out, t)[c] + total : total;
    }
  }
}

void combine_rows_backward(TensorView y, TensorView row_of_slot, TensorView weights, TensorView dout, TensorView dy,
                           TensorView dweights) {
  const int64_t k = weights.cols();
  for (int64_t slot = 0; slot < weights.rows() * k; ++slot) {
    const int32_t r = row_of_slot.as<int32_t>()[slot];
    const double* from = row(dout, slot / k);
    double dot = 0;
    for (int64_t c = 0; r >= 0 && c < y.cols(); ++c) {
      dot += from[c] * row(y, r)[c];
      row(dy, r)[c] = weights.as<double>()[slot] * from[c];
    }
    dweights.as<double>()[slot] = dot;
  }
}

}  // namespace cadre::reference
