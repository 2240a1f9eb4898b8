#include "kernels/simple_experts.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/elementwise.h"

namespace cadre::kernels {
namespace {

constexpr int64_t kGrain = 8192;

int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols)); }

// In eight interleaved sums, which compilers make vectors of.
template <class T>
double dot(const T* a, const T* b, int64_t count) {
  constexpr int64_t kWays = 8;
  std::array<double, kWays> sums{};
  int64_t i = 0;
  for (; i + kWays <= count; i += kWays) {
    for (int64_t j = 0; j < kWays; ++j) {
      sums[static_cast<size_t>(j)] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
    }
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  for (; i < count; ++i) total += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return total;
}

// The parts of one constant expert.
template <class T>
struct Constant {
  const T *v, *first, *second;  // [h] each
  Constant(TensorView constants, int32_t index, int64_t cols)
      : v(constants.as<T>() + index * 3 * cols), first(v + cols), second(first + cols) {}
};

struct Mix {
  double a1, a2;
};

template <class T>
Mix mix_of(const Constant<T>& constant, const T* x, int64_t cols) {
  const double difference = dot(constant.first, x, cols) - dot(constant.second, x, cols);
  return {1 / (1 + std::exp(-difference)), 1 / (1 + std::exp(difference))};
}

double factor_of(const TensorView& factors, int32_t id) { return factors ? factors.as<double>()[id] : 1; }

int32_t kind_of(const SimpleExperts& experts, int32_t id) {
  return id < experts.first ? SimpleExperts::kZero : experts.kinds[static_cast<size_t>(id - experts.first)];
}

// visit(slot, id, kind) for the places of a token that have an output.
void each_place(const SimpleExperts& experts, TensorView ids, int64_t token, const auto& visit) {
  for (int64_t slot = token * ids.cols(); slot < (token + 1) * ids.cols(); ++slot) {
    const int32_t id = ids.as<int32_t>()[slot], kind = kind_of(experts, id);
    if (kind != SimpleExperts::kZero) visit(slot, id, kind);
  }
}

template <class T>
const T* row(const TensorView& view, int64_t r) {
  return view.as<T>() + r * view.row_stride;
}

template <class T>
void add_all(const Exec& exec, const SimpleExperts& experts, TensorView x, TensorView ids, TensorView weights,
             TensorView constants, TensorView out) {
  const int64_t cols = x.cols();
  parallel_for(exec.threads, x.rows(), row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const T* const in = row<T>(x, t);
      T* const to = out.as<T>() + t * out.row_stride;
      each_place(experts, ids, t, [&](int64_t slot, int32_t, int32_t kind) {
        const T weight = weights.as<T>()[slot];
        if (kind == SimpleExperts::kCopy) {
          for (int64_t c = 0; c < cols; ++c) to[c] += weight * in[c];
          return;
        }
        const Constant<T> constant(constants, kind, cols);
        const Mix mix = mix_of(constant, in, cols);
        const T of_x = weight * static_cast<T>(mix.a1), of_v = weight * static_cast<T>(mix.a2);
        for (int64_t c = 0; c < cols; ++c) to[c] += of_x * in[c] + of_v * constant.v[c];
      });
    }
  });
}

// With dy = weight * dout: da1 = <dy, x>, da2 = <dy, v>, and of the logits dz1 = -dz2 = a1 a2 (da1 - da2).
template <class T>
void backward_all(const Exec& exec, const SimpleExperts& experts, const SimpleFactors& factors, TensorView x,
                  TensorView ids, TensorView weights, TensorView constants, TensorView dout, TensorView dx,
                  TensorView dweights) {
  const int64_t cols = x.cols(), k = ids.cols();
  parallel_for(exec.threads, x.rows(), row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (dweights) std::fill_n(dweights.as<T>() + t * k, k, T{0});
      const T *const in = row<T>(x, t), *const from = row<T>(dout, t);
      T* const to = dx ? dx.as<T>() + t * dx.row_stride : nullptr;
      each_place(experts, ids, t, [&](int64_t slot, int32_t id, int32_t kind) {
        const double dy = static_cast<double>(weights.as<T>()[slot]) * factor_of(factors.output, id);
        const double through = factor_of(factors.input, id), of_x = dot(from, in, cols);
        if (kind == SimpleExperts::kCopy) {
          if (dweights) dweights.as<T>()[slot] = static_cast<T>(of_x);
          const T factor = static_cast<T>(dy * through);
          for (int64_t c = 0; to != nullptr && c < cols; ++c) to[c] += factor * from[c];
          return;
        }
        const Constant<T> constant(constants, kind, cols);
        const Mix mix = mix_of(constant, in, cols);
        const double of_v = dot(from, constant.v, cols);
        if (dweights) dweights.as<T>()[slot] = static_cast<T>(mix.a1 * of_x + mix.a2 * of_v);
        const T direct = static_cast<T>(through * dy * mix.a1);
        const T of_logits = static_cast<T>(through * dy * mix.a1 * mix.a2 * (of_x - of_v));
        for (int64_t c = 0; to != nullptr && c < cols; ++c) {
          to[c] += direct * from[c] + of_logits * (constant.first[c] - constant.second[c]);
        }
      });
    }
  });
}

// What one place of a constant expert adds to its gradient: `of_v` times dout, and `of_logits` times x.
struct Share {
  int64_t token;
  int32_t constant;
  double of_v, of_logits;
};

template <class T>
std::vector<Share> shares_of(const SimpleExperts& experts, const SimpleFactors& factors, TensorView x, TensorView ids,
                             TensorView weights, TensorView constants, TensorView dout) {
  const int64_t cols = x.cols();
  std::vector<Share> shares;
  for (int64_t t = 0; t < x.rows(); ++t) {
    each_place(experts, ids, t, [&](int64_t slot, int32_t id, int32_t kind) {
      if (kind == SimpleExperts::kCopy) return;
      const Constant<T> constant(constants, kind, cols);
      const T *const in = row<T>(x, t), *const from = row<T>(dout, t);
      const Mix mix = mix_of(constant, in, cols);
      const double dy = static_cast<double>(weights.as<T>()[slot]) * factor_of(factors.output, id);
      const double difference = dot(from, in, cols) - dot(from, constant.v, cols);
      shares.push_back({t, kind, dy * mix.a2, dy * mix.a1 * mix.a2 * difference});
    });
  }
  return shares;
}

template <class T>
void add_gradient(const Exec& exec, const std::vector<Share>& shares, TensorView x, TensorView dout,
                  TensorView dconstants) {
  const int64_t cols = x.cols();
  parallel_for(exec.threads, cols, row_grain(static_cast<int64_t>(shares.size())), [&](int64_t begin, int64_t end) {
    for (const Share& share : shares) {
      T* const v = dconstants.as<T>() + share.constant * 3 * cols;
      const T *const in = row<T>(x, share.token), *const from = row<T>(dout, share.token);
      const T of_v = static_cast<T>(share.of_v), of_logits = static_cast<T>(share.of_logits);
      for (int64_t c = begin; c < end; ++c) {
        v[c] += of_v * from[c];
        v[cols + c] += of_logits * in[c];
        v[2 * cols + c] -= of_logits * in[c];
      }
    }
  });
}

void check(const char* op, const SimpleExperts& experts, TensorView x, TensorView ids, TensorView weights,
           TensorView constants, TensorView out) {
  const bool has_constants =
      std::any_of(experts.kinds.begin(), experts.kinds.end(), [](int32_t kind) { return kind >= 0; });
  require(x.rows() == ids.rows() && out.rows() == x.rows() && out.cols() == x.cols() && ids.contiguous() &&
              weights.contiguous() && weights.shape.elements() == ids.shape.elements() &&
              (!has_constants || (constants && constants.contiguous() && constants.cols() == x.cols())),
          op, {x, ids, weights, constants, out});
}

}  // namespace

void add_simple_experts(const Exec& exec, const SimpleExperts& experts, TensorView x, TensorView ids,
                        TensorView weights, TensorView constants, TensorView out) {
  const char* op = "add_simple_experts";
  check(op, experts, x, ids, weights, constants, out);
  if (exec.dry) return;
  wants_reference(op, {x, weights, out}) ? add_all<double>(exec, experts, x, ids, weights, constants, out)
                                         : add_all<float>(exec, experts, x, ids, weights, constants, out);
}

void simple_experts_backward(const Exec& exec, const SimpleExperts& experts, const SimpleFactors& factors, TensorView x,
                             TensorView ids, TensorView weights, TensorView constants, TensorView dout, TensorView dx,
                             Write write, TensorView dweights) {
  const char* op = "simple_experts_backward";
  check(op, experts, x, ids, weights, constants, dout);
  if (exec.dry) return;
  if (dx && write == Write::kOverwrite) fill(exec, dx, 0);
  const auto backward = wants_reference(op, {x, weights, dout}) ? backward_all<double> : backward_all<float>;
  backward(exec, experts, factors, x, ids, weights, constants, dout, dx, dweights);
}

void simple_experts_gradient(const Exec& exec, const SimpleExperts& experts, const SimpleFactors& factors, TensorView x,
                             TensorView ids, TensorView weights, TensorView constants, TensorView dout,
                             TensorView dconstants, Write write) {
  const char* op = "simple_experts_gradient";
  check(op, experts, x, ids, weights, constants, dout);
  if (exec.dry) return;
  if (write == Write::kOverwrite) fill(exec, dconstants, 0);
  if (wants_reference(op, {x, weights, dout, dconstants})) {
    add_gradient<double>(exec, shares_of<double>(experts, factors, x, ids, weights, constants, dout), x, dout,
                         dconstants);
  } else {
    add_gradient<float>(exec, shares_of<float>(experts, factors, x, ids, weights, constants, dout), x, dout,
                        dconstants);
  }
}

}  // namespace cadre::kernels
