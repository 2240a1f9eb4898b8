#include "kernels/optimizer.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "kernels/elementwise.h"
#include "launch/bench/bench.h"
#include "launch/bench/timing.h"

namespace cadre::launch {

nlohmann::json bench_optimizer(Session& session, const BenchOptions& options) {
  constexpr int64_t kElements = int64_t{32} << 20;
  const kernels::Exec& exec = session.context().exec;
  const auto flat = [&](double value) {
    Tensor tensor = Tensor::empty(session.allocator(), Dtype::kF32, {kElements});
    kernels::fill(exec, tensor, value);
    return tensor;
  };
  const Tensor weights = flat(0.5), gradients = flat(1e-3), m = flat(0), v = flat(0);
  kernels::AdamWSegment segment;
  segment.place = kernels::StatePlace::everywhere(0, kElements);
  segment.lr = 1e-3;
  const kernels::FlatRange whole{0, kElements};
  double norm = 0;
  const std::vector<double> seconds =
      alternate(options.seconds, {[&] {
                                    kernels::adamw(exec, {&segment, 1}, weights, gradients, m, v);
                                    ++segment.step;
                                  },
                                  [&] {
                                    kernels::squared_norms(exec, {&whole, 1}, gradients, {&norm, 1});
                                  },
                                  [&] { kernels::copy(exec, gradients, weights); }});
  const double bytes = sizeof(float) * static_cast<double>(kElements);
  const double adamw = 7 * bytes / seconds[0], squares = bytes / seconds[1], copy = 2 * bytes / seconds[2];
  if (options.print) {
    fmt::print(
        "AdamW {:.1f} GB/s (4 read, 3 written), gradient norm {:.1f} GB/s, copy {:.1f} GB/s: AdamW at {:.0f}% of "
        "a copy\n",
        1e-9 * adamw, 1e-9 * squares, 1e-9 * copy, 100 * adamw / copy);
  }
  return {{"case", "optimizer"},
          {"threads", session.threads()},
          {"elements", kElements},
          {"adamw_bytes_per_second", adamw},
          {"norm_bytes_per_second", squares},
          {"copy_bytes_per_second", copy},
          {"adamw_share_of_copy", adamw / copy}};
}

}  // namespace cadre::launch
