#include "kernels/gemm.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "core/rng.h"
#include "kernels/peak.h"
#include "launch/bench/bench.h"
#include "launch/bench/timing.h"

namespace cadre::launch {
namespace {

constexpr int64_t kExperts = 8, kHidden = 512, kFfn = 1408;
constexpr int64_t kRows[] = {16, 64, 256, 1024};  // tokens of an expert

Tensor random_tensor(Allocator& allocator, const Shape& shape) {
  Tensor tensor = Tensor::empty(allocator, Dtype::kF32, shape);
  Rng rng(1, RngPurpose::kTest);
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.data<float>()[i] = static_cast<float>(rng.uniform() - 0.5);
  return tensor;
}

struct Weights {
  Tensor values;  // [experts, ffn, hidden]
  Tensor forward_storage, input_storage;
  kernels::RightOperand forward, input;

  Weights(const kernels::Exec& exec, Allocator& allocator)
      : values(random_tensor(allocator, {kExperts, kFfn, kHidden})),
        forward_storage(storage(exec, allocator, kernels::Operand::kTransposed)),
        input_storage(storage(exec, allocator, kernels::Operand::kAsStored)) {
    pack_forward(exec);
    input = kernels::pack(exec, values, kernels::Operand::kAsStored, input_storage);
  }
  Tensor storage(const kernels::Exec& exec, Allocator& allocator, kernels::Operand operand) const {
    return Tensor::empty(allocator, Dtype::kF32, {kernels::packed_elements(exec, values, operand)});
  }
  void pack_forward(const kernels::Exec& exec) {
    forward = kernels::pack(exec, values, kernels::Operand::kTransposed, forward_storage);
  }
};

nlohmann::json measure(Session& session, const BenchOptions& options, Weights& weights, int64_t rows) {
  const kernels::Exec& exec = session.context().exec;
  Allocator& allocator = session.allocator();
  const Tensor x = random_tensor(allocator, {kExperts * rows, kHidden});
  const Tensor y = random_tensor(allocator, {kExperts * rows, kFfn});
  const Tensor out = Tensor::empty(allocator, Dtype::kF32, y.shape()),
               dx = Tensor::empty(allocator, Dtype::kF32, x.shape());
  const Tensor dw = Tensor::empty(allocator, Dtype::kF32, weights.values.shape());
  const Tensor offsets = Tensor::empty(allocator, Dtype::kI64, {kExperts + 1});
  for (int64_t e = 0; e <= kExperts; ++e) offsets.data<int64_t>()[e] = e * rows;
  constexpr auto kOverwrite = kernels::Write::kOverwrite;
  constexpr double kPeakSeconds = 0.02;
  std::vector<double> peaks;
  const std::vector<double> seconds = alternate(
      options.seconds / static_cast<double>(std::size(kRows)),
      {[&] { kernels::grouped_gemm(exec, x, offsets, weights.forward, out, kOverwrite); },
       [&] { kernels::grouped_gemm(exec, y, offsets, weights.input, dx, kOverwrite); },
       [&] { kernels::grouped_weight_gradient(exec, y, x, offsets, dw, kOverwrite); },
       [&] { kernels::grouped_gemm(exec, y, offsets, kernels::as_stored(weights.values), dx, kOverwrite); },
       [&] { weights.pack_forward(exec); }, [&] { peaks.push_back(kernels::measure_peak_flops(exec, kPeakSeconds)); }});
  const double flops = 2.0 * static_cast<double>(kExperts * rows * kHidden * kFfn), peak = median(peaks);
  const auto share = [&](size_t i) { return flops / seconds[i] / peak; };
  const double packed_share = 3 * flops / (seconds[0] + seconds[2] + seconds[3] + seconds[4]) / peak;
  if (options.print) {
    fmt::print("{:>6}{:>10.1f}%{:>14.1f}%{:>12.1f}%{:>15.1f}%{:>12.2f}{:>14.1f}%{:>12.1f}\n", rows, 100 * share(0),
               100 * share(1), 100 * share(3), 100 * share(2), 1e3 * seconds[4], 100 * packed_share, 1e-9 * peak);
  }
  return {{"rows", rows},
          {"forward_share", share(0)},
          {"input_gradient_share", share(1)},
          {"weight_gradient_share", share(2)},
          {"unpacked_input_gradient_share", share(3)},
          {"pack_seconds", seconds[4]},
          {"all_with_packing_share", packed_share},
          {"peak_gflops", 1e-9 * peak}};
}

}  // namespace

nlohmann::json bench_gemm(Session& session, const BenchOptions& options) {
  Weights weights(session.context().exec, session.allocator());
  if (options.print) {
    fmt::print(
        "{} experts of {} x {}, {} threads: share of the measured FP32 "
        "peak\n{:>6}{:>11}{:>15}{:>13}{:>16}{:>12}{:>15}{:>12}\n",
        kExperts, kHidden, kFfn, session.threads(), "rows", "forward", "input grad", "unpacked", "weight grad",
        "pack ms", "all + pack", "peak GF/s");
  }
  nlohmann::json shapes = nlohmann::json::array();
  for (const int64_t rows : kRows) shapes.push_back(measure(session, options, weights, rows));
  return {{"case", "gemm"}, {"threads", session.threads()}, {"shapes", std::move(shapes)}};
}

}  // namespace cadre::launch
