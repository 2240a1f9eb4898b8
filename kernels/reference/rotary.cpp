#include "kernels/reference/rotary.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace cadre::reference {
namespace {

const double* row_of(const TensorView& view, int64_t row) { return view.as<double>() + row * view.row_stride; }
double* mutable_row_of(const TensorView& view, int64_t row) { return view.as<double>() + row * view.row_stride; }

// The halves of `head` turned by the angles whose cosines, then sines, are given; direction -1 turns back.
std::vector<double> turned(const double* head, const double* angles, int64_t head_dim, double direction) {
  std::vector<double> result(static_cast<size_t>(head_dim));
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double cosine = angles[i];
    const double sine = direction * angles[half + i];
    result[static_cast<size_t>(i)] = head[i] * cosine - head[half + i] * sine;
    result[static_cast<size_t>(half + i)] = head[half + i] * cosine + head[i] * sine;
  }
  return result;
}

double inverse_rms(const double* head, int64_t head_dim, double eps) {
  double squares = 0;
  for (int64_t i = 0; i < head_dim; ++i) squares += head[i] * head[i];
  return 1 / std::sqrt(squares / static_cast<double>(head_dim) + eps);
}

// body(token, head, column where it begins, cosines and sines) for q and k heads.
template <class F>
void for_each_head(const kernels::RotaryShape& shape, const TensorView& qkv, const TensorView& positions,
                   const TensorView& table, F&& body) {
  for (int64_t token = 0; token < qkv.rows(); ++token) {
    const double* angles = row_of(table, positions.as<int32_t>()[token]);
    for (int64_t head = 0; head < shape.heads + shape.kv_heads; ++head) {
      body(token, head, head * shape.head_dim, angles);
    }
  }
}

void copy_values(const kernels::RotaryShape& shape, const TensorView& from, const TensorView& to) {
  const int64_t begin = (shape.heads + shape.kv_heads) * shape.head_dim;
  for (int64_t token = 0; token < from.rows(); ++token) {
    std::copy_n(row_of(from, token) + begin, shape.kv_heads * shape.head_dim, mutable_row_of(to, token) + begin);
  }
}

}  // namespace

void rotary_forward(const kernels::RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                    TensorView q_weight, TensorView k_weight, TensorView out, TensorView rstd) {
  for_each_head(shape, qkv, positions, table, [&](int64_t token, int64_t head, int64_t column, const double* angles) {
    const double* x = row_of(qkv, token) + column;
    std::vector<double> normed(x, x + shape.head_dim);
    const TensorView& weight = head < shape.heads ? q_weight : k_weight;
    if (weight) {
      const double scale = inverse_rms(x, shape.head_dim, shape.norm_eps);
      mutable_row_of(rstd, token)[head] = scale;
      for (int64_t i = 0; i < shape.head_dim; ++i) normed[static_cast<size_t>(i)] *= scale * weight.as<double>()[i];
    }
    const std::vector<double> result = turned(normed.data(), angles, shape.head_dim, 1);
    std::copy(result.begin(), result.end(), mutable_row_of(out, token) + column);
  });
  copy_values(shape, qkv, out);
}

void rotary_backward(const kernels::RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                     TensorView q_weight, TensorView k_weight, TensorView rstd, TensorView dout, TensorView dqkv) {
  for_each_head(shape, qkv, positions, table, [&](int64_t token, int64_t head, int64_t column, const double* angles) {
    const double* x = row_of(qkv, token) + column;
    double* dx = mutable_row_of(dqkv, token) + column;
    std::vector<double> gradient = turned(row_of(dout, token) + column, angles, shape.head_dim, -1);
    const TensorView& weight = head < shape.heads ? q_weight : k_weight;
    if (!weight) {
      std::copy(gradient.begin(), gradient.end(), dx);
      return;
    }
    const double scale = row_of(rstd, token)[head];
    double mean = 0;
    for (int64_t i = 0; i < shape.head_dim; ++i) {
      gradient[static_cast<size_t>(i)] *= weight.as<double>()[i];
      mean += gradient[static_cast<size_t>(i)] * x[i] * scale / static_cast<double>(shape.head_dim);
    }
    for (int64_t i = 0; i < shape.head_dim; ++i)
      dx[i] = scale * (gradient[static_cast<size_t>(i)] - x[i] * scale * mean);
  });
  copy_values(shape, dout, dqkv);
}

void rotary_weight_gradient(const kernels::RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                            TensorView rstd, TensorView dout, TensorView dq_weight, TensorView dk_weight,
                            kernels::Write write) {
  if (write == kernels::Write::kOverwrite) {
    std::fill_n(dq_weight.as<double>(), shape.head_dim, 0.0);
    std::fill_n(dk_weight.as<double>(), shape.head_dim, 0.0);
  }
  for_each_head(shape, qkv, positions, table, [&](int64_t token, int64_t head, int64_t column, const double* angles) {
    const std::vector<double> gradient = turned(row_of(dout, token) + column, angles, shape.head_dim, -1);
    double* dweight = (head < shape.heads ? dq_weight : dk_weight).as<double>();
    const double* x = row_of(qkv, token) + column;
    const double scale = row_of(rstd, token)[head];
    for (int64_t i = 0; i < shape.head_dim; ++i) dweight[i] += gradient[static_cast<size_t>(i)] * x[i] * scale;
  });
}

}  // namespace cadre::reference
