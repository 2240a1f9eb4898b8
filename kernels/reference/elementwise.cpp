#include "kernels/reference/elementwise.h"

#include <vector>

namespace cadre::reference {
namespace {

constexpr int64_t kBlock = 4096;

double tree_sum(const std::vector<double>& blocks, size_t begin, size_t count) {
  if (count == 0) return 0;
  if (count == 1) return blocks[begin];
  size_t left = 1;
  while (left * 2 < count) left *= 2;
  return tree_sum(blocks, begin, left) + tree_sum(blocks, begin + left, count - left);
}

}  // namespace

void add(TensorView a, TensorView b, TensorView out) {
  for (int64_t r = 0; r < out.rows(); ++r) {
    for (int64_t c = 0; c < out.cols(); ++c) row(out, r)[c] = row(a, r)[c] + row(b, r)[c];
  }
}

void scale(double factor, TensorView x) {
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.cols(); ++c) row(x, r)[c] *= factor;
  }
}

double sum(TensorView x) {
  std::vector<double> blocks;
  int64_t in_block = kBlock;
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.cols(); ++c) {
      if (in_block == kBlock) {
        blocks.push_back(0);
        in_block = 0;
      }
      blocks.back() += row(x, r)[c];
      ++in_block;
    }
  }
  return tree_sum(blocks, 0, blocks.size());
}

void row_dot(TensorView a, TensorView b, TensorView out) {
  for (int64_t r = 0; r < a.rows(); ++r) {
    double dot = 0;
    for (int64_t c = 0; c < a.cols(); ++c) dot += row(a, r)[c] * row(b, r)[c];
    *row(out, r) = dot;
  }
}

}  // namespace cadre::reference
