#include "launch/verify/verify.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <utility>

namespace cadre::launch {
namespace {

// Of the global batch: two for each data rank, and enough to fill a pipeline.
int64_t micro_batches_for(const Variant& variant) {
  const int64_t each = variant.stages() > 1 ? variant.layout.pipeline + 1 : 2;
  return variant.layout.data * each;
}

void print(const Verdict& verdict) {
  const Comparison& c = verdict.comparison;
  fmt::print("{:<54} {:<5} {:>10.2e} {:>10.2e}  {}", verdict.variant.to_string(), name_of(verdict.dtype), c.loss,
             c.gradient, verdict.passes ? "ok" : "WRONG");
  if (!verdict.passes && !c.first.empty()) fmt::print(": {} is off by {:.2e}", c.first, c.first_error);
  if (!verdict.passes) fmt::print("; axis: {}", verdict.axis);
  fmt::print("\n");
}

}  // namespace

bool VerifyReport::passes() const {
  return directional_error <= kDirectionalTolerance &&
         std::all_of(verdicts.begin(), verdicts.end(), [](const Verdict& verdict) { return verdict.passes; });
}

VerifyReport verify(const Settings& settings, const VerifyOptions& options) {
  VerifyReport report;
  std::map<std::pair<int64_t, int64_t>, Proof> proofs;  // by micro-batches and layers
  if (options.print) fmt::print("{:<54} {:<5} {:>10} {:>10}\n", "layout", "type", "loss", "gradient");
  for (const Variant& variant : options.variants) {
    const VerifyCase verify_case =
        make_verify_case(settings, micro_batches_for(variant), options.shrink, variant.stages());
    const std::pair key{verify_case.micro_batches, verify_case.network.model.num_layers};
    auto found = proofs.find(key);
    if (found == proofs.end()) {
      found = proofs.try_emplace(key, verify_case, options.fault, options.world).first;
      report.directional_error = std::max(report.directional_error, found->second.directional_error());
      const Flips flips = found->second.near_ties();
      report.near_ties.choices += flips.choices;
      report.near_ties.differ += flips.differ;
    }
    for (const Dtype dtype : options.dtypes) {
      report.verdicts.push_back(found->second.judge(variant, dtype));
      if (options.print) print(report.verdicts.back());
    }
  }
  if (options.print) {
    fmt::print("references: one rank, FP64, {} of them; finite differences along random directions: {:.2e}\n",
               proofs.size(), report.directional_error);
    fmt::print("near-ties: FP32 would choose otherwise {} times in {}\n", report.near_ties.differ,
               report.near_ties.choices);
  }
  return report;
}

}  // namespace cadre::launch
