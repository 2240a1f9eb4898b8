#include "kernels/noise.h"

#include <algorithm>

#include "core/rng.h"
#include "kernels/elementwise.h"

namespace cadre::kernels {
namespace {

constexpr int64_t kGrain = 2048;

// body(rng, row) with the generator at the row's own draws, of which there are `blocks` groups of four.
template <class Body>
void each_row(const Exec& exec, TensorView view, RngPurpose purpose, const RowDraws& draws, int64_t blocks,
              const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, view.cols()));
  parallel_for(exec.threads, view.rows(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      Rng rng(draws.seed, purpose, draws.stream);
      rng.seek(static_cast<uint64_t>((draws.first_row + r) * blocks));
      body(rng, r);
    }
  });
}

template <class T>
void jitter_all(const Exec& exec, TensorView x, double epsilon, const RowDraws& draws, TensorView out) {
  each_row(exec, x, RngPurpose::kJitter, draws, (x.cols() + 3) / 4, [&](Rng& rng, int64_t r) {
    const T* from = x.as<T>() + r * x.row_stride;
    T* to = out.as<T>() + r * out.row_stride;
    for (int64_t c = 0; c < x.cols(); ++c) {
      to[c] = from[c] * static_cast<T>(1 + epsilon * (2 * (static_cast<double>(rng.bits()) * 0x1.0p-32) - 1));
    }
  });
}

template <class T>
void normal_all(const Exec& exec, const RowDraws& draws, TensorView out) {
  each_row(exec, out, RngPurpose::kNoise, draws, (out.cols() + 1) / 2 * 2, [&](Rng& rng, int64_t r) {
    T* to = out.as<T>() + r * out.row_stride;
    for (int64_t c = 0; c < out.cols(); ++c) to[c] = static_cast<T>(rng.normal());
  });
}

}  // namespace

void jitter(const Exec& exec, TensorView x, double epsilon, const RowDraws& draws, TensorView out) {
  require(x.rows() == out.rows() && x.cols() == out.cols(), "jitter", {x, out});
  if (exec.dry) return;
  wants_reference("jitter", {x, out}) ? jitter_all<double>(exec, x, epsilon, draws, out)
                                      : jitter_all<float>(exec, x, epsilon, draws, out);
}

void fill_normal(const Exec& exec, const RowDraws& draws, TensorView out) {
  if (exec.dry) return;
  wants_reference("fill_normal", {out}) ? normal_all<double>(exec, draws, out) : normal_all<float>(exec, draws, out);
}

}  // namespace cadre::kernels
