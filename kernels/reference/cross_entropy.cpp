#include "kernels/reference/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/reference/elementwise.h"

namespace cadre::reference {

void cross_entropy_forward(TensorView logits, TensorView targets, TensorView losses, TensorView lse) {
  const int64_t vocabulary = logits.cols();
  for (int64_t t = 0; t < logits.rows(); ++t) {
    const double* x = row(logits, t);
    const double largest = *std::max_element(x, x + vocabulary);
    double total = 0;
    for (int64_t v = 0; v < vocabulary; ++v) total += std::exp(x[v] - largest);
    const int32_t target = targets.as<int32_t>()[t];
    lse.as<double>()[t] = largest + std::log(total);
    losses.as<double>()[t] = target < 0 ? 0.0 : lse.as<double>()[t] - x[target];
  }
}

void cross_entropy_backward(TensorView logits, TensorView targets, TensorView lse, TensorView dlosses,
                            TensorView dlogits) {
  for (int64_t t = 0; t < logits.rows(); ++t) {
    const int32_t target = targets.as<int32_t>()[t];
    const double scale = target < 0 ? 0.0 : dlosses.as<double>()[t];
    for (int64_t v = 0; v < logits.cols(); ++v) {
      const double gradient = scale * (std::exp(row(logits, t)[v] - lse.as<double>()[t]) - (v == target ? 1.0 : 0.0));
      row(dlogits, t)[v] = target < 0 ? 0.0 : gradient;
    }
  }
}

}  // namespace cadre::reference
