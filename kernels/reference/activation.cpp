#include "kernels/reference/activation.h"

#include <cmath>

#include "kernels/reference/elementwise.h"

namespace cadre::reference {
namespace {

constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
constexpr double kCubic = 0.044715;

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace

void swiglu_forward(TensorView h, Range rows, TensorView out) {
  const int64_t f = out.cols();
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const double* gate = row(h, r);
    const double* up = gate + f;
    for (int64_t c = 0; c < f; ++c) row(out, r)[c] = gate[c] * sigmoid(gate[c]) * up[c];
  }
}

void swiglu_backward(TensorView h, Range rows, TensorView dout, TensorView dh) {
  const int64_t f = dout.cols();
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = 0; c < f; ++c) {
      const double gate = row(h, r)[c];
      const double up = row(h, r)[f + c];
      const double s = sigmoid(gate);
      row(dh, r)[c] = row(dout, r)[c] * up * s * (1.0 + gate * (1.0 - s));
      row(dh, r)[f + c] = row(dout, r)[c] * gate * s;
    }
  }
}

void gelu_forward(TensorView h, Range rows, TensorView out) {
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = 0; c < h.cols(); ++c) {
      const double x = row(h, r)[c];
      row(out, r)[c] = 0.5 * x * (1.0 + std::tanh(kSqrtTwoOverPi * (x + kCubic * x * x * x)));
    }
  }
}

void gelu_backward(TensorView h, Range rows, TensorView dout, TensorView dh) {
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = 0; c < h.cols(); ++c) {
      const double x = row(h, r)[c];
      const double t = std::tanh(kSqrtTwoOverPi * (x + kCubic * x * x * x));
      const double slope = kSqrtTwoOverPi * (1.0 + 3.0 * kCubic * x * x);
      row(dh, r)[c] = row(dout, r)[c] * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope);
    }
  }
}

}  // namespace cadre::reference
