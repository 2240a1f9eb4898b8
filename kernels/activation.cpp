#include "kernels/activation.h"

#include <algorithm>

#include "kernels/cpu/activation.h"
#include "kernels/elementwise.h"
#include "kernels/reference/activation.h"

namespace cadre::kernels {
namespace {

using cpu::Rows;

constexpr int64_t kGrain = 4096;

Rows rows_of(const TensorView& view) { return {view.as<float>(), view.row_stride}; }

int64_t bounded_rows(const TensorView& h, const TensorView& rows_end) {
  if (!rows_end) return h.rows();
  require(rows_end.shape.elements() == 1, "activation: rows_end", {rows_end});
  return std::clamp<int64_t>(*rows_end.as<int64_t>(), 0, h.rows());
}

bool fits(Activation kind, const TensorView& h, const TensorView& out) {
  return h.rows() == out.rows() && h.cols() == (kind == Activation::kSwiGlu ? 2 : 1) * out.cols();
}

}  // namespace

void activation_forward(const Exec& exec, Activation kind, TensorView h, TensorView rows_end, TensorView out) {
  require(fits(kind, h, out), "activation_forward", {h, out});
  const int64_t rows = bounded_rows(h, rows_end);
  if (exec.dry) return;
  if (wants_reference("activation_forward", {h, out})) {
    return kind == Activation::kSwiGlu ? reference::swiglu_forward(h, rows, out)
                                       : reference::gelu_forward(h, rows, out);
  }
  const cpu::ActivationTable& table = CADRE_SIMD_SELECT(exec.isa, kActivationTable);
  const auto body = kind == Activation::kSwiGlu ? table.swiglu_forward : table.gelu_forward;
  const int64_t width = out.cols();
  parallel_for(exec.threads, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)),
               [&](int64_t begin, int64_t end) { body(rows_of(h), rows_of(out), width, begin, end); });
}

void activation_backward(const Exec& exec, Activation kind, TensorView h, TensorView rows_end, TensorView dout,
                         TensorView dh) {
  require(fits(kind, h, dout) && h.rows() == dh.rows() && h.cols() == dh.cols(), "activation_backward", {h, dout, dh});
  const int64_t rows = bounded_rows(h, rows_end);
  if (exec.dry) return;
  if (wants_reference("activation_backward", {h, dout, dh})) {
    return kind == Activation::kSwiGlu ? reference::swiglu_backward(h, rows, dout, dh)
                                       : reference::gelu_backward(h, rows, dout, dh);
  }
  const cpu::ActivationTable& table = CADRE_SIMD_SELECT(exec.isa, kActivationTable);
  const auto body = kind == Activation::kSwiGlu ? table.swiglu_backward : table.gelu_backward;
  const int64_t width = dout.cols();
  parallel_for(exec.threads, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)),
               [&](int64_t begin, int64_t end) { body(rows_of(h), rows_of(dout), rows_of(dh), width, begin, end); });
}

}  // namespace cadre::kernels
