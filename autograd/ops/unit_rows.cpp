#include <cmath>

#include "autograd/ops/router.h"
#include "kernels/elementwise.h"

namespace cadre::autograd {
namespace {

constexpr double kSmallest = 1e-24;  // beside the square of a length

template <class T>
double dot(const T* a, const T* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

template <class T>
const T* row(TensorView view, int64_t index) {
  return view.as<T>() + index * view.row_stride;
}

template <class T>
void make_unit(TensorView keys, TensorView out) {
  for (int64_t r = 0; r < keys.rows(); ++r) {
    const T* key = row<T>(keys, r);
    const double scale = 1 / std::sqrt(dot(key, key, keys.cols()) + kSmallest);
    for (int64_t i = 0; i < keys.cols(); ++i) out.as<T>()[r * out.row_stride + i] = static_cast<T>(key[i] * scale);
  }
}

// With u = k / |k|: dk = (du - u <u, du>) / |k|.
template <class T>
void make_unit_backward(TensorView keys, TensorView gradient, TensorView dkeys) {
  for (int64_t r = 0; r < keys.rows(); ++r) {
    const T *key = row<T>(keys, r), *of_unit = row<T>(gradient, r);
    const double square = dot(key, key, keys.cols()) + kSmallest, along = dot(key, of_unit, keys.cols()) / square;
    for (int64_t i = 0; i < keys.cols(); ++i) {
      dkeys.as<T>()[r * dkeys.row_stride + i] = static_cast<T>((of_unit[i] - key[i] * along) / std::sqrt(square));
    }
  }
}

}  // namespace

std::vector<TensorSpec> UnitRows::infer(std::span<const TensorSpec> in) const {
  require(in.size() == 1 && in[0].shape.rank() == 2, in, "keys [experts, n]");
  return {in[0]};
}

void UnitRows::forward(const Forward& f) const {
  if (f.context.exec.dry) return;
  const bool wide = kernels::wants_reference(name(), {f.in[0], f.out[0]});
  wide ? make_unit<double>(f.in[0], f.out[0]) : make_unit<float>(f.in[0], f.out[0]);
}

void UnitRows::backward_parameters(Backward& b) const {
  const TensorView dkeys = b.target(0).view, keys = b.in(0), gradient = b.gradient(0);
  if (b.context().exec.dry) return;
  const bool wide = kernels::wants_reference(name(), {keys, dkeys});
  wide ? make_unit_backward<double>(keys, gradient, dkeys) : make_unit_backward<float>(keys, gradient, dkeys);
}

}  // namespace cadre::autograd
