#include "kernels/reference/norm.h"

#include <cmath>

#include "kernels/reference/elementwise.h"

namespace cadre::reference {

void rms_norm_forward(TensorView x, TensorView branch, TensorView weight, double eps, TensorView sum, TensorView y,
                      TensorView rstd) {
  if (branch) {
    add(x, branch, sum);
    x = sum;
  }
  const int64_t cols = x.cols();
  const double* w = weight.as<double>();
  for (int64_t r = 0; r < x.rows(); ++r) {
    double squares = 0;
    for (int64_t c = 0; c < cols; ++c) squares += row(x, r)[c] * row(x, r)[c];
    const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(cols) + eps);
    for (int64_t c = 0; c < cols; ++c) row(y, r)[c] = row(x, r)[c] * inverse * w[c];
    rstd.as<double>()[r] = inverse;
  }
}

void rms_norm_backward(TensorView x, TensorView weight, TensorView rstd, TensorView dy, TensorView dx,
                       bool accumulate) {
  const int64_t cols = x.cols();
  const double* w = weight.as<double>();
  for (int64_t r = 0; r < x.rows(); ++r) {
    const double inverse = rstd.as<double>()[r];
    double dot = 0;
    for (int64_t c = 0; c < cols; ++c) dot += w[c] * row(dy, r)[c] * row(x, r)[c];
    const double along = dot * inverse * inverse / static_cast<double>(cols);
    for (int64_t c = 0; c < cols; ++c) {
      const double gradient = inverse * (w[c] * row(dy, r)[c] - row(x, r)[c] * along);
      row(dx, r)[c] = accumulate ? row(dx, r)[c] + gradient : gradient;
    }
  }
}

void rms_norm_weight_gradient(TensorView x, TensorView rstd, TensorView dy, TensorView dweight, bool accumulate) {
  double* dw = dweight.as<double>();
  for (int64_t c = 0; c < x.cols(); ++c) {
    double total = 0;
    for (int64_t r = 0; r < x.rows(); ++r) total += row(dy, r)[c] * row(x, r)[c] * rstd.as<double>()[r];
    dw[c] = accumulate ? dw[c] + total : total;
  }
}

}  // namespace cadre::reference
