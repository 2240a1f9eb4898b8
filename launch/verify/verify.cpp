#include "launch/verify/verify.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "launch/trainer/model_shard.h"
#include "launch/verify/differences.h"
#include "parallel/comm/self.h"

namespace cadre::launch {
namespace {

std::vector<std::string> segment_order(const VerifyCase& verify_case) {
  const auto self = parallel::make_self_communicator();
  parallel::Mesh mesh(*self, {});
  const ModelShard whole(mesh, verify_case.network);
  std::vector<std::string> order;
  for (const GlobalSegment& segment : whole.segments()) order.push_back(segment.name);
  return order;
}

class Proof {
 public:
  Proof(const VerifyCase& verify_case, Fault fault)
      : case_(verify_case),
        fault_(fault),
        order_(segment_order(verify_case)),
        reference_(run_case(verify_case, {.layout = {}, .dtype = Dtype::kF64})) {}

  // Which rows a full expert drops by score may change under a perturbation, like the routing, and is held by dropping
  // by position instead.
  double directional_error() const {
    constexpr int kDirections = 3;
    VerifyCase held = case_;
    const bool drops = held.network.moe.capacity_factor.has_value();
    if (!drops) return launch::directional_error(case_, reference_, kDirections);
    held.network.moe.drop_policy = kernels::DropPolicy::kByPosition;
    return launch::directional_error(held, run_case(held, {.layout = {}, .dtype = Dtype::kF64}), kDirections);
  }

  Flips near_ties() const {
    return count_flips(run_case(case_, {.layout = {}, .dtype = Dtype::kF32}).routing, reference_.routing);
  }

  LayoutVerdict judge(const parallel::Layout& layout, Dtype dtype) const {
    LayoutVerdict verdict{layout, dtype, compare_with(layout, dtype), "", false};
    verdict.passes = verdict.comparison.passes(tolerance_of(dtype));
    if (!verdict.passes) verdict.axis = axis_of(layout, dtype);
    return verdict;
  }

 private:
  static double tolerance_of(Dtype dtype) { return dtype == Dtype::kF64 ? kFp64Tolerance : kFp32Tolerance; }

  // FP32 replays the reference's routing: a near-tie that rounding decides is no wrong gradient.
  Comparison compare_with(const parallel::Layout& layout, Dtype dtype) const {
    const bool narrow = dtype == Dtype::kF32;
    const CaseResult result = run_case(case_, {layout, dtype, narrow ? &reference_.routing : nullptr, fault_});
    return compare(result, reference_, order_, tolerance_of(dtype), narrow ? kFp32Floor : 0);
  }

  bool passes(const parallel::Layout& layout, Dtype dtype) const {
    return compare_with(layout, dtype).passes(tolerance_of(dtype));
  }

  // Takes axes away until it passes: the last one taken makes the difference.
  std::string axis_of(const parallel::Layout& layout, Dtype dtype) const {
    if (!passes({}, dtype)) return "none: one rank alone fails";
    parallel::Layout fewer = layout;
    if (layout.expert > 1) {
      fewer.expert = 1;
      if (passes(fewer, dtype)) return "expert";
    }
    return "data";
  }

  const VerifyCase& case_;
  Fault fault_;
  std::vector<std::string> order_;
  CaseResult reference_;
};

void print(const LayoutVerdict& verdict) {
  const Comparison& c = verdict.comparison;
  fmt::print("{:<18} {:<5} {:>10.2e} {:>10.2e}  {}", verdict.layout.to_string(), name_of(verdict.dtype), c.loss,
             c.gradient, verdict.passes ? "ok" : "WRONG");
  if (!verdict.passes && !c.first.empty()) fmt::print(": {} is off by {:.2e}", c.first, c.first_error);
  if (!verdict.passes) fmt::print("; axis: {}", verdict.axis);
  fmt::print("\n");
}

}  // namespace

bool VerifyReport::passes() const {
  return directional_error <= kDirectionalTolerance &&
         std::all_of(verdicts.begin(), verdicts.end(), [](const LayoutVerdict& verdict) { return verdict.passes; });
}

VerifyReport verify(const Settings& settings, const VerifyOptions& options) {
  int64_t micro_batches = 1;
  for (const parallel::Layout& layout : options.layouts) micro_batches = std::lcm<int64_t>(micro_batches, layout.data);
  const VerifyCase verify_case = make_verify_case(settings, micro_batches, options.shrink);
  const Proof proof(verify_case, options.fault);
  VerifyReport report;
  report.directional_error = proof.directional_error();
  report.near_ties = proof.near_ties();
  if (options.print) {
    fmt::print("reference: one rank, FP64, {} micro-batches; finite differences along random directions: {:.2e}\n",
               micro_batches, report.directional_error);
    fmt::print("near-ties: FP32 would choose otherwise {} times in {}\n", report.near_ties.differ,
               report.near_ties.choices);
    fmt::print("{:<18} {:<5} {:>10} {:>10}\n", "layout", "type", "loss", "gradient");
  }
  for (const parallel::Layout& layout : options.layouts) {
    for (const Dtype dtype : options.dtypes) {
      report.verdicts.push_back(proof.judge(layout, dtype));
      if (options.print) print(report.verdicts.back());
    }
  }
  return report;
}

}  // namespace cadre::launch
