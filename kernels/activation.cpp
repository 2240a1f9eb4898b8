#include "kernels/activation.h"

#include <algorithm>

#include "kernels/cpu/activation.h"
#include "kernels/elementwise.h"
#include "kernels/reference/activation.h"
#include "kernels/share.h"

namespace cadre::kernels {
namespace {

using cpu::Rows;

// Floats read and written that are worth sharing out.
constexpr int64_t kGrain = 12288;

Rows rows_of(const TensorView& view) { return {view.as<float>(), view.row_stride}; }

int64_t bound(const TensorView& row, int64_t otherwise) {
  if (!row) return otherwise;
  require(row.shape.elements() == 1, "activation: a bound of rows", {row});
  return *row.as<int64_t>();
}

Range range_of(const RowRange& rows, const TensorView& h) {
  const int64_t end = std::clamp<int64_t>(bound(rows.end, h.rows()), 0, h.rows());
  return {std::clamp<int64_t>(bound(rows.begin, 0), 0, end), end};
}

bool fits(Activation kind, const TensorView& h, const TensorView& out) {
  return h.rows() == out.rows() && h.cols() == hidden_columns(kind, out.cols());
}

// body(part, begin, end) on rows of every part, which the workers share by the floats that pass.
template <class Part, class Body>
void share_rows(const Exec& exec, std::span<const Part> parts, Body&& body) {
  const auto row_cost = [](const Part& part) {
    const int64_t hidden = part.h.cols();
    return std::max<int64_t>(1, hidden + (part.kind == Activation::kSwiGlu ? hidden / 2 : hidden));
  };
  int64_t total = 0;
  for (const Part& part : parts) {
    const Range range = range_of(part.rows, part.h);
    total += (range.end - range.begin) * row_cost(part);
  }
  const auto run = [&](Share share) {
    for (const Part& part : parts) {
      const Range range = range_of(part.rows, part.h);
      const Range mine = share.take(range.end - range.begin, row_cost(part));
      if (mine.begin < mine.end) body(part, range.begin + mine.begin, range.begin + mine.end);
    }
  };
  if (total <= kGrain || exec.threads.size() == 1) return run(Share(total, 0, 1));
  exec.threads.run([&](int worker) { run(Share(total, worker, exec.threads.size())); });
}

}  // namespace

void activation_forward(const Exec& exec, std::span<const ActivationPart> parts) {
  bool in_double = false;
  for (const auto& [kind, rows, h, out] : parts) {
    require(fits(kind, h, out), "activation_forward", {h, out});
    in_double = wants_reference("activation_forward", {parts[0].h, h, out});
    range_of(rows, h);
  }
  if (exec.dry) return;
  if (in_double) {
    for (const auto& [kind, rows, h, out] : parts) {
      const Range range = range_of(rows, h);
      (kind == Activation::kSwiGlu ? reference::swiglu_forward : reference::gelu_forward)(h, range, out);
    }
    return;
  }
  const cpu::ActivationTable& table = CADRE_SIMD_SELECT(exec.isa, kActivationTable);
  share_rows(exec, parts, [&](const ActivationPart& part, int64_t begin, int64_t end) {
    const auto body = part.kind == Activation::kSwiGlu ? table.swiglu_forward : table.gelu_forward;
    body(rows_of(part.h), rows_of(part.out), part.out.cols(), begin, end);
  });
}

void activation_backward(const Exec& exec, std::span<const ActivationGradientPart> parts) {
  bool in_double = false;
  for (const auto& [kind, rows, h, dout, dh] : parts) {
    require(fits(kind, h, dout) && h.rows() == dh.rows() && h.cols() == dh.cols(), "activation_backward",
            {h, dout, dh});
    in_double = wants_reference("activation_backward", {parts[0].h, h, dout, dh});
    range_of(rows, h);
  }
  if (exec.dry) return;
  if (in_double) {
    for (const auto& [kind, rows, h, dout, dh] : parts) {
      const Range range = range_of(rows, h);
      (kind == Activation::kSwiGlu ? reference::swiglu_backward : reference::gelu_backward)(h, range, dout, dh);
    }
    return;
  }
  const cpu::ActivationTable& table = CADRE_SIMD_SELECT(exec.isa, kActivationTable);
  share_rows(exec, parts, [&](const ActivationGradientPart& part, int64_t begin, int64_t end) {
    const auto body = part.kind == Activation::kSwiGlu ? table.swiglu_backward : table.gelu_backward;
    body(rows_of(part.h), rows_of(part.dout), rows_of(part.dh), part.dout.cols(), begin, end);
  });
}

void activation_forward(const Exec& exec, Activation kind, TensorView h, TensorView rows_end, TensorView out) {
  const ActivationPart part{kind, {{}, rows_end}, h, out};
  activation_forward(exec, {&part, 1});
}

void activation_backward(const Exec& exec, Activation kind, TensorView h, TensorView rows_end, TensorView dout,
                         TensorView dh) {
  const ActivationGradientPart part{kind, {{}, rows_end}, h, dout, dh};
  activation_backward(exec, {&part, 1});
}

}  // namespace cadre::kernels
