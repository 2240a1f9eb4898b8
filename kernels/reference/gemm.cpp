#include "kernels/reference/gemm.h"

#include <Eigen/Core>

namespace cadre::reference {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Map = Eigen::Map<Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;

Map map_rows(TensorView view, int64_t begin, int64_t rows) {
  return Map(view.as<double>() + begin * view.row_stride, rows, view.cols(), Eigen::OuterStride<>(view.row_stride));
}

}  // namespace

void pack(TensorView weights, kernels::Operand operand, const kernels::RightOperand& packed) {
  const int64_t rows = weights.shape[-2];
  for (int64_t group = 0; group < packed.groups; ++group) {
    Eigen::Map<Matrix> target(packed.values.as<double>() + group * packed.k * packed.n, packed.k, packed.n);
    const Map source = map_rows(weights, group * rows, rows);
    if (operand == kernels::Operand::kTransposed) {
      target = source.transpose();
    } else {
      target = source;
    }
  }
}

void grouped_gemm(TensorView a, const int64_t* offsets, const kernels::RightOperand& b, TensorView out,
                  kernels::Write write) {
  for (int64_t group = 0; group < b.groups; ++group) {
    const int64_t begin = offsets[group];
    const int64_t rows = offsets[group + 1] - begin;
    if (rows == 0) continue;
    const int64_t stride = b.packed ? b.n : b.values.row_stride;
    const Map right(b.values.as<double>() + group * b.k * stride, b.k, b.n, Eigen::OuterStride<>(stride));
    Map result = map_rows(out, begin, rows);
    if (write == kernels::Write::kOverwrite) result.setZero();
    result.noalias() += map_rows(a, begin, rows) * right;
  }
}

void grouped_weight_gradient(TensorView dy, TensorView x, const int64_t* offsets, int64_t groups, TensorView dw,
                             kernels::Write write) {
  const int64_t height = dw.rows() / groups;
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t begin = offsets[group];
    const int64_t rows = offsets[group + 1] - begin;
    Map result = map_rows(dw, group * height, height);
    if (write == kernels::Write::kOverwrite) result.setZero();
    if (rows > 0) result.noalias() += map_rows(dy, begin, rows).transpose() * map_rows(x, begin, rows);
  }
}

}  // namespace cadre::reference
