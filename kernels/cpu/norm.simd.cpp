#include "kernels/cpu/norm.h"

#include "kernels/cpu/elementwise.simd.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

float sum_of_squares(const float* x, int64_t cols) {
  return sum_lanes(cols, [&](int64_t c, auto lanes) {
    const Vec v = lanes.load(x + c);
    return v * v;
  });
}

float add_and_sum_squares(const float* x, const float* branch, float* sum, int64_t cols) {
  return sum_lanes(cols, [&](int64_t c, auto lanes) {
    const Vec v = lanes.load(x + c) + lanes.load(branch + c);
    lanes.store(sum + c, v);
    return v * v;
  });
}

// A row stays in the first-level cache between its two passes.
void forward(const NormForward& norm, int64_t begin, int64_t end) {
  const int64_t cols = norm.cols;
  const float* weight = norm.weight;
  for (int64_t r = begin; r < end; ++r) {
    const float* x = norm.x.data + r * norm.x.stride;
    float squares;
    if (norm.branch.data != nullptr) {
      float* sum_row = norm.sum.data + r * norm.sum.stride;
      squares = add_and_sum_squares(x, norm.branch.data + r * norm.branch.stride, sum_row, cols);
      x = sum_row;
    } else {
      squares = sum_of_squares(x, cols);
    }
    const float rstd = 1.0f / __builtin_sqrtf(squares / static_cast<float>(cols) + norm.eps);
    norm.rstd[r] = rstd;
    float* y = norm.y.data + r * norm.y.stride;
    for_lanes(cols,
              [&](int64_t c, auto lanes) { lanes.store(y + c, lanes.load(x + c) * rstd * lanes.load(weight + c)); });
  }
}

void backward(const NormBackward& norm, int64_t begin, int64_t end) {
  const int64_t cols = norm.cols;
  const float* weight = norm.weight;
  for (int64_t r = begin; r < end; ++r) {
    const float* x = norm.x.data + r * norm.x.stride;
    const float* dy = norm.dy.data + r * norm.dy.stride;
    float* dx = norm.dx.data + r * norm.dx.stride;
    const float rstd = norm.rstd[r];
    const float dot = sum_lanes(
        cols, [&](int64_t c, auto lanes) { return lanes.load(weight + c) * lanes.load(dy + c) * lanes.load(x + c); });
    const float along = -(dot * rstd * rstd / static_cast<float>(cols)) * rstd;
    if (norm.accumulate) {
      for_lanes(cols, [&](int64_t c, auto lanes) {
        const Vec across = fma(lanes.load(weight + c) * rstd, lanes.load(dy + c), lanes.load(dx + c));
        lanes.store(dx + c, fma(lanes.load(x + c), splat(along), across));
      });
    } else {
      for_lanes(cols, [&](int64_t c, auto lanes) {
        const Vec across = lanes.load(weight + c) * rstd * lanes.load(dy + c);
        lanes.store(dx + c, fma(lanes.load(x + c), splat(along), across));
      });
    }
  }
}

template <int kRows>
CADRE_INLINE void add_rows(const NormBackward& norm, int64_t first, float* partial) {
  const float* x[kRows];
  const float* dy[kRows];
  Vec rstd[kRows];
  for (int64_t r = 0; r < kRows; ++r) {
    x[r] = norm.x.data + (first + r) * norm.x.stride;
    dy[r] = norm.dy.data + (first + r) * norm.dy.stride;
    rstd[r] = splat(norm.rstd[first + r]);
  }
  for_lanes(norm.cols, [&](int64_t c, auto lanes) {
    Vec total = lanes.load(partial + c);
    for (int64_t r = 0; r < kRows; ++r) total = fma(lanes.load(dy[r] + c) * rstd[r], lanes.load(x[r] + c), total);
    lanes.store(partial + c, total);
  });
}

// Four rows at a time, so that the partial sums are loaded and stored once for four.
void weight_block(const NormBackward& norm, int64_t begin, int64_t end, float* partial) {
  for_lanes(norm.cols, [&](int64_t c, auto lanes) { lanes.store(partial + c, zero()); });
  int64_t r = begin;
  for (; r + 4 <= end; r += 4) add_rows<4>(norm, r, partial);
  for (; r < end; ++r) add_rows<1>(norm, r, partial);
}

}  // namespace

const NormTable kNormTable = {forward, backward, weight_block};

}  // namespace cadre::cpu::CADRE_ISA
