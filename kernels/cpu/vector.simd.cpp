#include "kernels/cpu/vector.h"

#include "kernels/cpu/vector_table.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

template <class Function>
CADRE_INLINE void map(const float* x, int64_t count, float* out, Function function) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(out + i, function(load(x + i)));
  store_partial(out + i, function(load_partial(x + i, count - i)), count - i);
}

void map_exp(const float* x, int64_t count, float* out) {
  map(x, count, out, [](Vec v) { return exp(v); });
}
void map_log(const float* x, int64_t count, float* out) {
  map(x, count, out, [](Vec v) { return log(v); });
}
void map_tanh(const float* x, int64_t count, float* out) {
  map(x, count, out, [](Vec v) { return tanh(v); });
}
void map_sigmoid(const float* x, int64_t count, float* out) {
  map(x, count, out, [](Vec v) { return sigmoid(v); });
}
void map_sqrt(const float* x, int64_t count, float* out) {
  map(x, count, out, [](Vec v) { return sqrt(v); });
}
float sum_lanes(const float* x) { return sum(load(x)); }
float max_of_lanes(const float* x) { return max_lane(load(x)); }
double sum_widened(const float* x) { return sum(widen_low(load(x)) + widen_high(load(x))); }

}  // namespace

const VectorTable kVectorTable = {
    .width = kWidth,
    .exp = map_exp,
    .log = map_log,
    .tanh = map_tanh,
    .sigmoid = map_sigmoid,
    .sqrt = map_sqrt,
    .sum = sum_lanes,
    .max_lane = max_of_lanes,
    .sum_widened = sum_widened,
};

}  // namespace cadre::cpu::CADRE_ISA
