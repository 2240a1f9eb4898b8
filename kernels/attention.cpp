#include "kernels/attention.h"

#include <fmt/core.h>

#include <cmath>
#include <string_view>

#include "core/error.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/rotary.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/rotary.h"

namespace cadre::kernels {
namespace {

void require(bool holds, std::string_view op, std::string_view name, const TensorView& got, std::string_view wanted) {
  if (holds) return;
  throw InternalError(
      fmt::format("{}: {} is {} {}, wanted {}", op, name, name_of(got.dtype), got.shape.to_string(), wanted));
}

void require_matrix(std::string_view op, std::string_view name, const TensorView& view, Dtype dtype, int64_t rows,
                    int64_t cols) {
  const bool holds = view.data != nullptr || rows * cols == 0;
  require(holds && view.dtype == dtype && view.rows() == rows && view.cols() == cols, op, name, view,
          fmt::format("{} [{}, {}]", name_of(dtype), rows, cols));
}

// i32 [count] in one piece, or a single column.
void require_integers(std::string_view op, std::string_view name, const TensorView& view, int64_t count) {
  require(view.dtype == Dtype::kI32 && view.shape.elements() == count && view.contiguous(), op, name, view,
          fmt::format("i32 [{}]", count));
}

void require_vector(std::string_view op, std::string_view name, const TensorView& view, Dtype dtype, int64_t count) {
  require(view.dtype == dtype && view.shape.elements() == count && view.contiguous(), op, name, view,
          fmt::format("{} [{}]", name_of(dtype), count));
}

void require_float(std::string_view op, Dtype dtype) {
  if (dtype == Dtype::kF32 || dtype == Dtype::kF64) return;
  throw InternalError(fmt::format("{}: no kernel for {}, only for f32 and f64", op, name_of(dtype)));
}

void check_attention(std::string_view op, const AttentionShape& shape, const TensorView& q, const TensorView& k,
                     const TensorView& v, const TensorView& segment_start, const TensorView& out,
                     const TensorView& lse) {
  require_float(op, q.dtype);
  if (shape.kv_heads < 1 || shape.heads < 1 || shape.heads % shape.kv_heads != 0 || shape.head_dim < 1) {
    throw InternalError(fmt::format("{}: {} heads of {} over {} kv heads, which must divide them", op, shape.heads,
                                    shape.head_dim, shape.kv_heads));
  }
  if (shape.queries < 0 || shape.queries > shape.keys || shape.keys > shape.key_stride) {
    throw InternalError(fmt::format("{}: queries {} <= keys {} <= key_stride {} does not hold", op, shape.queries,
                                    shape.keys, shape.key_stride));
  }
  const int64_t rows = shape.batch * shape.queries;
  const int64_t key_rows = shape.batch * shape.key_stride;
  require_matrix(op, "q", q, q.dtype, rows, shape.heads * shape.head_dim);
  require_matrix(op, "k", k, q.dtype, key_rows, shape.kv_heads * shape.head_dim);
  require_matrix(op, "v", v, q.dtype, key_rows, shape.kv_heads * shape.head_dim);
  require_matrix(op, "out", out, q.dtype, rows, shape.heads * shape.head_dim);
  require_matrix(op, "lse", lse, q.dtype, rows, shape.heads);
  if (segment_start) require_integers(op, "segment_start", segment_start, rows);
}

int64_t qkv_width(const RotaryShape& shape) { return (shape.heads + 2 * shape.kv_heads) * shape.head_dim; }

void check_rotary(std::string_view op, const RotaryShape& shape, const TensorView& qkv, const TensorView& positions,
                  const TensorView& table) {
  require_float(op, qkv.dtype);
  if (shape.head_dim < 2 || shape.head_dim % 2 != 0 || shape.heads < 1 || shape.kv_heads < 1) {
    throw InternalError(fmt::format("{}: {} + {} heads of {}: wanted at least one of each and an even size", op,
                                    shape.heads, shape.kv_heads, shape.head_dim));
  }
  const int64_t tokens = qkv.rows();
  require_matrix(op, "qkv", qkv, qkv.dtype, tokens, qkv_width(shape));
  require_integers(op, "positions", positions, tokens);
  require_matrix(op, "table", table, qkv.dtype, table.rows(), shape.head_dim);
  const int32_t* position = positions.as<int32_t>();
  for (int64_t token = 0; token < tokens; ++token) {
    if (position[token] >= 0 && position[token] < table.rows()) continue;
    throw InternalError(fmt::format("{}: token {} stands at position {}, the table has 0..{}", op, token,
                                    position[token], table.rows() - 1));
  }
}

void check_norm(std::string_view op, const RotaryShape& shape, const TensorView& qkv, const TensorView& q_weight,
                const TensorView& k_weight, const TensorView& rstd) {
  if (!q_weight && !k_weight) return;
  require_vector(op, "q_weight", q_weight, qkv.dtype, shape.head_dim);
  require_vector(op, "k_weight", k_weight, qkv.dtype, shape.head_dim);
  require(q_weight && k_weight, op, "rstd", rstd, "both weights or neither");
  require_matrix(op, "rstd", rstd, qkv.dtype, qkv.rows(), shape.heads + shape.kv_heads);
}

template <class T>
void fill_rotary_table(const Exec& exec, double theta, const TensorView& table) {
  const int64_t half = table.cols() / 2;
  parallel_for(exec.threads, table.rows(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < half; ++i) {
      const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(table.cols()));
      for (int64_t position = begin; position < end; ++position) {
        T* row = table.as<T>() + position * table.row_stride;
        row[i] = static_cast<T>(std::cos(static_cast<double>(position) * frequency));
        row[half + i] = static_cast<T>(std::sin(static_cast<double>(position) * frequency));
      }
    }
  });
}

}  // namespace

void attention_forward(const Exec& exec, const AttentionShape& shape, TensorView q, TensorView k, TensorView v,
                       TensorView segment_start, TensorView out, TensorView lse) {
  check_attention("attention_forward", shape, q, k, v, segment_start, out, lse);
  if (exec.dry) return;
  if (q.dtype == Dtype::kF64) {
    reference::attention_forward(shape, q, k, v, segment_start, out, lse);
  } else {
    cpu::attention_forward(exec, shape, q, k, v, segment_start, out, lse);
  }
}

void attention_backward(const Exec& exec, const AttentionShape& shape, TensorView q, TensorView k, TensorView v,
                        TensorView segment_start, TensorView out, TensorView lse, TensorView dout, TensorView dq,
                        TensorView dk, TensorView dv) {
  constexpr std::string_view op = "attention_backward";
  check_attention(op, shape, q, k, v, segment_start, out, lse);
  if (shape.queries != shape.keys || shape.keys != shape.key_stride) {
    throw InternalError(fmt::format("{}: queries {}, keys {} and key_stride {} must be equal", op, shape.queries,
                                    shape.keys, shape.key_stride));
  }
  const int64_t rows = shape.batch * shape.queries;
  require_matrix(op, "dout", dout, q.dtype, rows, shape.heads * shape.head_dim);
  require_matrix(op, "dq", dq, q.dtype, rows, shape.heads * shape.head_dim);
  require_matrix(op, "dk", dk, q.dtype, rows, shape.kv_heads * shape.head_dim);
  require_matrix(op, "dv", dv, q.dtype, rows, shape.kv_heads * shape.head_dim);
  if (exec.dry) return;
  if (q.dtype == Dtype::kF64) {
    reference::attention_backward(shape, q, k, v, segment_start, out, lse, dout, dq, dk, dv);
  } else {
    cpu::attention_backward(exec, shape, q, k, v, segment_start, out, lse, dout, dq, dk, dv);
  }
}

void rotary_table(const Exec& exec, double theta, TensorView table) {
  require_float("rotary_table", table.dtype);
  require(table.cols() % 2 == 0, "rotary_table", "table", table, "[positions, an even head_dim]");
  if (exec.dry) return;
  if (table.dtype == Dtype::kF64) {
    fill_rotary_table<double>(exec, theta, table);
  } else {
    fill_rotary_table<float>(exec, theta, table);
  }
}

void rotary_forward(const Exec& exec, const RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                    TensorView q_weight, TensorView k_weight, TensorView out, TensorView rstd) {
  constexpr std::string_view op = "rotary_forward";
  check_rotary(op, shape, qkv, positions, table);
  check_norm(op, shape, qkv, q_weight, k_weight, rstd);
  require_matrix(op, "out", out, qkv.dtype, qkv.rows(), qkv_width(shape));
  if (exec.dry) return;
  if (qkv.dtype == Dtype::kF64) {
    reference::rotary_forward(shape, qkv, positions, table, q_weight, k_weight, out, rstd);
  } else {
    cpu::rotary_forward(exec, shape, qkv, positions, table, q_weight, k_weight, out, rstd);
  }
}

void rotary_backward(const Exec& exec, const RotaryShape& shape, TensorView qkv, TensorView positions, TensorView table,
                     TensorView q_weight, TensorView k_weight, TensorView rstd, TensorView dout, TensorView dqkv) {
  constexpr std::string_view op = "rotary_backward";
  check_rotary(op, shape, qkv, positions, table);
  check_norm(op, shape, qkv, q_weight, k_weight, rstd);
  require_matrix(op, "dout", dout, qkv.dtype, qkv.rows(), qkv_width(shape));
  require_matrix(op, "dqkv", dqkv, qkv.dtype, qkv.rows(), qkv_width(shape));
  if (exec.dry) return;
  if (qkv.dtype == Dtype::kF64) {
    reference::rotary_backward(shape, qkv, positions, table, q_weight, k_weight, rstd, dout, dqkv);
  } else {
    cpu::rotary_backward(exec, shape, qkv, positions, table, q_weight, k_weight, rstd, dout, dqkv);
  }
}

void rotary_weight_gradient(const Exec& exec, const RotaryShape& shape, TensorView qkv, TensorView positions,
                            TensorView table, TensorView rstd, TensorView dout, TensorView dq_weight,
                            TensorView dk_weight, Write write) {
  constexpr std::string_view op = "rotary_weight_gradient";
  check_rotary(op, shape, qkv, positions, table);
  require_matrix(op, "rstd", rstd, qkv.dtype, qkv.rows(), shape.heads + shape.kv_heads);
  require_matrix(op, "dout", dout, qkv.dtype, qkv.rows(), qkv_width(shape));
  require_vector(op, "dq_weight", dq_weight, qkv.dtype, shape.head_dim);
  require_vector(op, "dk_weight", dk_weight, qkv.dtype, shape.head_dim);
  if (exec.dry) return;
  if (qkv.dtype == Dtype::kF64) {
    reference::rotary_weight_gradient(shape, qkv, positions, table, rstd, dout, dq_weight, dk_weight, write);
  } else {
    cpu::rotary_weight_gradient(exec, shape, qkv, positions, table, rstd, dout, dq_weight, dk_weight, write);
  }
}

}  // namespace cadre::kernels
