#include "autograd/ops/guard.h"

#include <cmath>

#include "kernels/guard.h"

namespace cadre::autograd {
namespace {

template <class T>
void guard_gates(TensorView gradient, TensorView ids, TensorView factors, TensorView guarded, RowFaults* faults) {
  for (int64_t slot = 0; slot < ids.shape.elements(); ++slot) {
    const int32_t id = ids.as<int32_t>()[slot];
    T& value = gradient.as<T>()[slot];
    if (id < 0) continue;
    const auto factor = static_cast<T>(factors.as<double>()[id]);
    if (guarded.as<int32_t>()[id] == 0 || std::isfinite(value)) {
      value = factor == 0 ? 0 : value * factor;
      continue;
    }
    value = 0;
    if (faults != nullptr) ++(*faults)[static_cast<size_t>(id)];
  }
}

}  // namespace

std::vector<TensorSpec> GuardInputs::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 4 && in[0].shape.rank() == 2 && in[1].shape.rank() == 1 && in[2].shape.rank() == 1 &&
              in[1].shape[0] == in[2].shape[0] + 1 && in[3].shape == in[2].shape,
          in, "rows [n, h], offsets [experts + 1], factors and guarded [experts]");
  return {in[0]};
}

void GuardInputs::backward_inputs(Backward& b) const {
  const kernels::Exec& exec = b.context().exec;
  Allocator& allocator = b.context().allocator;
  const TensorView rows = b.writable_gradient(0), offsets = b.in(1), factors = b.in(2), guarded = b.in(3);
  const Tensor flags = Tensor::empty(allocator, Dtype::kI32, Shape{rows.rows()});
  const Tensor counts = Tensor::zeros(allocator, Dtype::kI64, factors.shape);
  kernels::zero_non_finite_rows(exec, offsets, guarded, rows, flags, counts);
  kernels::scale_expert_rows(exec, offsets, factors, {}, rows);
  for (size_t e = 0; faults_ && e < faults_->size(); ++e) (*faults_)[e] += counts.data<int64_t>()[e];
  b.pass(0, 0);
}

std::vector<TensorSpec> GuardOutputs::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 4 && in[0].shape.rank() == 2 && in[1].shape.rank() == 1 && in[2].shape.rank() == 1 &&
              in[1].shape[0] == in[2].shape[0] + 1 && in[3].shape == in[2].shape,
          in, "rows [n, h], offsets [experts + 1], factors and guarded [experts]");
  return {in[0], {Dtype::kI64, in[2].shape}, {Dtype::kI32, Shape{in[0].shape[0]}}};
}

void GuardOutputs::forward(const Forward& f) const {
  kernels::zero_non_finite_rows(f.context.exec, f.in[1], f.in[3], f.out[kRows], f.out[kFlags], f.out[kCounts]);
}

void GuardOutputs::backward_inputs(Backward& b) const {
  kernels::scale_expert_rows(b.context().exec, b.in(1), b.in(2), b.out(kFlags), b.writable_gradient(kRows));
  b.pass(0, kRows);
}

std::vector<TensorSpec> GuardGates::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 4 && in[0].shape.rank() == 2 && in[0].shape == in[1].shape && in[2].shape.rank() == 1 &&
              in[3].shape == in[2].shape,
          in, "weights and ids [tokens, k], factors and guarded [experts]");
  return {in[0]};
}

void GuardGates::backward_inputs(Backward& b) const {
  const TensorView gradient = b.writable_gradient(0), ids = b.in(1), factors = b.in(2), guarded = b.in(3);
  if (!b.context().exec.dry) {
    gradient.dtype == Dtype::kF64 ? guard_gates<double>(gradient, ids, factors, guarded, faults_.get())
                                  : guard_gates<float>(gradient, ids, factors, guarded, faults_.get());
  }
  b.pass(0, 0);
}

}  // namespace cadre::autograd
