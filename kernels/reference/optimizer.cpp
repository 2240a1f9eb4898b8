#include "kernels/reference/optimizer.h"

#include <cmath>

namespace cadre::reference {

void adamw(const kernels::AdamWSegment& segment, double* weights, const double* gradients, double* m, double* v) {
  const double step = static_cast<double>(segment.step);
  weights += segment.place.weights;
  gradients += segment.place.gradients;
  m += segment.place.moments;
  v += segment.place.moments;
  for (int64_t i = 0; i < segment.place.count; ++i) {
    const double g = gradients[i] * segment.gradient_scale;
    m[i] = segment.beta1 * m[i] + (1 - segment.beta1) * g;
    v[i] = segment.beta2 * v[i] + (1 - segment.beta2) * g * g;
    const double m_hat = m[i] / (1 - std::pow(segment.beta1, step));
    const double v_hat = v[i] / (1 - std::pow(segment.beta2, step));
    weights[i] -= segment.lr * (m_hat / (std::sqrt(v_hat) + segment.eps) + segment.weight_decay * weights[i]);
  }
}

void sgd(const kernels::SgdSegment& segment, double* weights, const double* gradients, double* buffer) {
  weights += segment.place.weights;
  gradients += segment.place.gradients;
  buffer += segment.place.moments;
  for (int64_t i = 0; i < segment.place.count; ++i) {
    const double g = gradients[i] * segment.gradient_scale;
    buffer[i] = segment.momentum * buffer[i] + g;
    const double direction = segment.nesterov ? g + segment.momentum * buffer[i] : buffer[i];
    weights[i] -= segment.lr * direction + segment.lr * segment.weight_decay * weights[i];
  }
}

double sum_of_squares(const double* x, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += x[i] * x[i];
  return sum;
}

}  // namespace cadre::reference
