#include "kernels/cpu/rotary.h"

#include <algorithm>

namespace cadre::cpu {
namespace {

Rows rows_of(const TensorView& view) { return {view.as<float>(), view.row_stride}; }

RotaryArgs make_args(const kernels::RotaryShape& shape, const TensorView& qkv, const TensorView& positions,
                     const TensorView& table, const TensorView& rstd) {
  RotaryArgs args;
  args.heads = shape.heads;
  args.kv_heads = shape.kv_heads;
  args.head_dim = shape.head_dim;
  args.norm_eps = static_cast<float>(shape.norm_eps);
  args.qkv = rows_of(qkv);
  args.table = rows_of(table);
  args.positions = positions.as<int32_t>();
  if (rstd) args.rstd = rows_of(rstd);
  return args;
}

constexpr int64_t kTokenGrain = 16;
// Weight gradients are summed in this many parts whatever the number of threads, then part by part.
constexpr int64_t kParts = 64;

}  // namespace

void rotary_forward(const kernels::Exec& exec, const kernels::RotaryShape& shape, TensorView qkv, TensorView positions,
                    TensorView table, TensorView q_weight, TensorView k_weight, TensorView out, TensorView rstd) {
  const RotaryTable& simd = CADRE_SIMD_SELECT(exec.isa, kRotaryTable);
  RotaryArgs args = make_args(shape, qkv, positions, table, rstd);
  args.out = rows_of(out);
  if (q_weight) args.q_weight = q_weight.as<float>();
  if (k_weight) args.k_weight = k_weight.as<float>();
  parallel_for(exec.threads, qkv.rows(), kTokenGrain,
               [&](int64_t begin, int64_t end) { simd.forward(args, begin, end); });
}

void rotary_backward(const kernels::Exec& exec, const kernels::RotaryShape& shape, TensorView qkv, TensorView positions,
                     TensorView table, TensorView q_weight, TensorView k_weight, TensorView rstd, TensorView dout,
                     TensorView dqkv) {
  const RotaryTable& simd = CADRE_SIMD_SELECT(exec.isa, kRotaryTable);
  RotaryArgs args = make_args(shape, qkv, positions, table, rstd);
  args.dout = rows_of(dout);
  args.dqkv = rows_of(dqkv);
  if (q_weight) args.q_weight = q_weight.as<float>();
  if (k_weight) args.k_weight = k_weight.as<float>();
  parallel_for(exec.threads, qkv.rows(), kTokenGrain,
               [&](int64_t begin, int64_t end) { simd.backward(args, begin, end); });
}

void rotary_weight_gradient(const kernels::Exec& exec, const kernels::RotaryShape& shape, TensorView qkv,
                            TensorView positions, TensorView table, TensorView rstd, TensorView dout,
                            TensorView dq_weight, TensorView dk_weight, kernels::Write write) {
  const RotaryTable& simd = CADRE_SIMD_SELECT(exec.isa, kRotaryTable);
  RotaryArgs args = make_args(shape, qkv, positions, table, rstd);
  args.dout = rows_of(dout);
  const int64_t width = shape.head_dim;
  const size_t bytes = static_cast<size_t>(kParts * 2 * width) * sizeof(float);
  float* sums = static_cast<float*>(exec.threads.scratch(0, bytes));
  const int64_t per_part = (qkv.rows() + kParts - 1) / kParts;
  parallel_for(exec.threads, kParts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = std::min(part * per_part, qkv.rows());
      const int64_t last = std::min(first + per_part, qkv.rows());
      float* sum = sums + part * 2 * width;
      simd.weight_gradient(args, first, last, sum, sum + width);
    }
  });
  for (int64_t i = 0; i < width; ++i) {
    double dq = 0;
    double dk = 0;
    for (int64_t part = 0; part < kParts; ++part) {
      dq += sums[part * 2 * width + i];
      dk += sums[part * 2 * width + width + i];
    }
    float& dq_out = dq_weight.as<float>()[i];
    float& dk_out = dk_weight.as<float>()[i];
    dq_out = static_cast<float>(write == kernels::Write::kAccumulate ? dq_out + dq : dq);
    dk_out = static_cast<float>(write == kernels::Write::kAccumulate ? dk_out + dk : dk);
  }
}

}  // namespace cadre::cpu
