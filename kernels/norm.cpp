#include "kernels/norm.h"

#include <algorithm>

#include "kernels/cpu/norm.h"
#include "kernels/elementwise.h"
#include "kernels/reference/norm.h"

namespace cadre::kernels {
namespace {

using cpu::Rows;

constexpr int64_t kGrain = 8192;
// The weight gradient's blocks depend on the number of rows only.
constexpr int64_t kMostBlocks = 64;
constexpr int64_t kLeastBlockRows = 16;

int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols)); }

Rows rows_of(const TensorView& view) { return view ? Rows{view.as<float>(), view.row_stride} : Rows{nullptr, 0}; }

bool same_shape(const TensorView& a, const TensorView& b) { return a.rows() == b.rows() && a.cols() == b.cols(); }

bool is_vector(const TensorView& view, int64_t elements) {
  return view.shape.elements() == elements && view.contiguous();
}

void forward(const Exec& exec, const char* op, TensorView x, TensorView branch, TensorView weight, double eps,
             TensorView sum, TensorView y, TensorView rstd) {
  require(same_shape(x, y) && is_vector(weight, x.cols()) && is_vector(rstd, x.rows()), op, {x, weight, y, rstd});
  if (exec.dry) return;
  if (wants_reference(op, {x, branch, weight, sum, y, rstd})) {
    return reference::rms_norm_forward(x, branch, weight, eps, sum, y, rstd);
  }
  const cpu::NormTable& table = CADRE_SIMD_SELECT(exec.isa, kNormTable);
  const cpu::NormForward norm{rows_of(x), rows_of(branch),  rows_of(sum), weight.as<float>(), static_cast<float>(eps),
                              rows_of(y), rstd.as<float>(), x.cols()};
  parallel_for(exec.threads, x.rows(), row_grain(x.cols()),
               [&](int64_t begin, int64_t end) { table.forward(norm, begin, end); });
}

}  // namespace

void rms_norm_forward(const Exec& exec, TensorView x, TensorView weight, double eps, TensorView y, TensorView rstd) {
  forward(exec, "rms_norm_forward", x, {}, weight, eps, {}, y, rstd);
}

void add_rms_norm_forward(const Exec& exec, TensorView x, TensorView branch, TensorView weight, double eps,
                          TensorView sum, TensorView y, TensorView rstd) {
  require(same_shape(x, branch) && same_shape(x, sum), "add_rms_norm_forward", {x, branch, sum});
  forward(exec, "add_rms_norm_forward", x, branch, weight, eps, sum, y, rstd);
}

void rms_norm_backward(const Exec& exec, TensorView x, TensorView weight, TensorView rstd, TensorView dy, TensorView dx,
                       Write write) {
  const bool accumulate = write == Write::kAccumulate;
  require(same_shape(x, dy) && same_shape(x, dx) && is_vector(weight, x.cols()) && is_vector(rstd, x.rows()),
          "rms_norm_backward", {x, weight, rstd, dy, dx});
  if (exec.dry) return;
  if (wants_reference("rms_norm_backward", {x, weight, rstd, dy, dx})) {
    return reference::rms_norm_backward(x, weight, rstd, dy, dx, accumulate);
  }
  const cpu::NormTable& table = CADRE_SIMD_SELECT(exec.isa, kNormTable);
  const cpu::NormBackward norm{rows_of(x),  weight.as<float>(), rstd.as<float>(), rows_of(dy),
                               rows_of(dx), accumulate,         x.cols()};
  parallel_for(exec.threads, x.rows(), row_grain(x.cols()),
               [&](int64_t begin, int64_t end) { table.backward(norm, begin, end); });
}

void rms_norm_weight_gradient(const Exec& exec, TensorView x, TensorView rstd, TensorView dy, TensorView dweight,
                              Write write) {
  const bool accumulate = write == Write::kAccumulate;
  const int64_t rows = x.rows();
  const int64_t cols = x.cols();
  require(same_shape(x, dy) && is_vector(dweight, cols) && is_vector(rstd, rows), "rms_norm_weight_gradient",
          {x, rstd, dy, dweight});
  if (exec.dry) return;
  if (wants_reference("rms_norm_weight_gradient", {x, rstd, dy, dweight})) {
    return reference::rms_norm_weight_gradient(x, rstd, dy, dweight, accumulate);
  }
  if (rows == 0) {
    if (!accumulate) fill(exec, dweight, 0);
    return;
  }
  const cpu::NormTable& table = CADRE_SIMD_SELECT(exec.isa, kNormTable);
  const cpu::ElementwiseTable& elementwise = CADRE_SIMD_SELECT(exec.isa, kElementwiseTable);
  const cpu::NormBackward norm{rows_of(x), nullptr, rstd.as<float>(), rows_of(dy), {nullptr, 0}, false, cols};

  const int64_t block_rows = std::max(kLeastBlockRows, (rows + kMostBlocks - 1) / kMostBlocks);
  const int64_t blocks = (rows + block_rows - 1) / block_rows;
  auto* partials = static_cast<float*>(exec.threads.scratch(0, static_cast<size_t>(blocks * cols) * sizeof(float)));
  parallel_for(exec.threads, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      table.weight_block(norm, block * block_rows, std::min(rows, (block + 1) * block_rows), partials + block * cols);
    }
  });
  parallel_for(exec.threads, cols, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t step = 1; step < blocks; step *= 2) {
      for (int64_t block = 0; block + step < blocks; block += 2 * step) {
        float* into = partials + block * cols + begin;
        elementwise.add(into, into + step * cols, into, end - begin);
      }
    }
    float* out = dweight.as<float>() + begin;
    const float* total = partials + begin;
    if (accumulate) return elementwise.add(out, total, out, end - begin);
    std::copy(total, total + (end - begin), out);
  });
}

}  // namespace cadre::kernels
