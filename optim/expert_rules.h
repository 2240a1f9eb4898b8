#pragma once
// What a config's rules make of each expert, step by step.

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "model/expert_layout.h"

namespace cadre::optim {

struct ExpertRule {
  double lr_scale = 1;
  std::optional<double> weight_decay;                 // none: the optimizer's
  std::optional<double> clip_norm;                    // none: only the global one
  std::optional<double> beta1, beta2, eps, momentum;  // likewise
  double loss_scale = 1;                              // of the backward through it, divided out before all else
  bool frozen = false;
  bool detached_input = false;   // no gradient into what it reads
  bool detached_router = false;  // none into its gate
  double dropout = 0;            // probability that it sits out a step
  bool operator==(const ExpertRule&) const = default;
};

class ExpertRules {
 public:
  ExpertRules() = default;  // none
  // Throws ExpertLayoutError naming the rule that selects nothing or cannot be computed.
  ExpertRules(std::vector<model::ExpertRuleSettings> rules, const model::ExpertLayout& layout);
  ExpertRules(const model::MoeSettings& moe, const model::ExpertLayout& layout);  // with train_only

  bool empty() const { return rules_.empty(); }
  // Whether only some experts are trained, and whether a segment is: of an expert, or with -1 of anything else.
  bool restricts() const { return trained_.has_value(); }
  bool trains(int layer, int expert) const { return !trained_ || trained_->contains({layer, expert}); }
  // Which optimizer an expert has, where `otherwise` is everything else's.
  kernels::OptimizerKind optimizer_of(int layer, int expert, kernels::OptimizerKind otherwise) const;
  // Likewise of some expert of the model.
  bool uses(kernels::OptimizerKind kind) const;
  // Those of a step of a run of `steps`. Experts that are not there have no rule.
  using ByExpert = std::map<std::pair<int, int>, ExpertRule>;  // by layer and id
  ByExpert at(int64_t step, int64_t steps) const;

 private:
  std::vector<model::ExpertRuleSettings> rules_;
  std::vector<std::vector<std::pair<int, int>>> experts_;  // of each rule
  std::map<std::pair<int, int>, kernels::OptimizerKind> optimizers_;
  std::optional<std::set<std::pair<int, int>>> trained_;
};

}  // namespace cadre::optim
