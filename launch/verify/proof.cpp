#include "launch/verify/proof.h"

#include "launch/trainer/model_shard.h"
#include "launch/verify/differences.h"
#include "parallel/comm/self.h"

namespace cadre::launch {
namespace {

const RunCase kReference{.variant = {}, .dtype = Dtype::kF64};

std::vector<std::string> segment_order(const VerifyCase& verify_case) {
  const auto self = parallel::make_self_communicator();
  parallel::Mesh mesh(*self, {});
  const ModelShard whole(mesh, verify_case.network);
  std::vector<std::string> order;
  for (const GlobalSegment& segment : whole.segments()) order.push_back(segment.name);
  return order;
}

double tolerance_of(Dtype dtype) { return dtype == Dtype::kF64 ? kFp64Tolerance : kFp32Tolerance; }

}  // namespace

Proof::Proof(VerifyCase verify_case, Fault fault, parallel::Communicator* world)
    : case_(std::move(verify_case)),
      fault_(fault),
      world_(world),
      order_(segment_order(case_)),
      reference_(run_case(case_, kReference)) {}

// Which rows a full expert drops by score may change under a perturbation, like the routing, and is held by dropping by
// position instead. Nor does a difference know of a gradient that is cut off.
double Proof::directional_error() const {
  constexpr int kDirections = 3;
  VerifyCase held = case_;
  model::MoeSettings& moe = held.network.moe;
  bool changed = moe.capacity_factor.has_value();
  moe.drop_policy = kernels::DropPolicy::kByPosition;
  for (model::ExpertRuleSettings& rule : moe.rules) {
    changed = changed || rule.detached_input || rule.detached_router;
    rule.detached_input.reset();
    rule.detached_router.reset();
  }
  if (!changed) return launch::directional_error(case_, reference_, kDirections);
  return launch::directional_error(held, run_case(held, kReference), kDirections);
}

Flips Proof::near_ties() const {
  return count_flips(run_case(case_, {.variant = {}, .dtype = Dtype::kF32}).routing, reference_.routing);
}

// FP32 replays the reference's routing: a near-tie that rounding decides is no wrong gradient.
Comparison Proof::compare_with(const Variant& variant, Dtype dtype) const {
  const bool narrow = dtype == Dtype::kF32;
  const RunCase run{variant, dtype, narrow ? &reference_.routing : nullptr, fault_, case_.zero, {}};
  const bool on_world = world_ != nullptr && world_->size() == variant.layout.ranks();
  const CaseResult result = on_world ? run_case_on(*world_, case_, run) : run_case(case_, run);
  return compare(result, reference_, order_, tolerance_of(dtype), narrow ? kFp32Floor : 0);
}

bool Proof::passes(const Variant& variant, Dtype dtype) const {
  return compare_with(variant, dtype).passes(tolerance_of(dtype));
}

// Takes axes away until it passes: the last one taken makes the difference.
std::string Proof::axis_of(const Variant& variant, Dtype dtype) const {
  if (!passes({}, dtype)) return "none: one rank alone fails";
  Variant fewer = variant;
  if (variant.stages() > 1) {
    fewer = {variant.layout};
    fewer.layout.pipeline = 1;
    if (passes(fewer, dtype)) return "pipeline";
  }
  if (variant.layout.expert > 1) {
    fewer.layout.expert = 1;
    if (passes(fewer, dtype)) return "expert";
  }
  return "data";
}

Verdict Proof::judge(const Variant& variant, Dtype dtype) const {
  Verdict verdict{variant, dtype, compare_with(variant, dtype), "", false};
  verdict.passes = verdict.comparison.passes(tolerance_of(dtype));
  if (!verdict.passes) verdict.axis = axis_of(variant, dtype);
  return verdict;
}

}  // namespace cadre::launch
