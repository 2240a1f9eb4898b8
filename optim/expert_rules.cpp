#include "optim/expert_rules.h"

#include <fmt/core.h>

#include <algorithm>

#include "model/expert_selector.h"

namespace cadre::optim {

using model::ExpertLayoutError;

namespace {

// By layer and id; errors name the key.
std::vector<std::pair<int, int>> selected(const std::string& selector, const std::string& key,
                                          const model::ExpertLayout& layout) {
  std::vector<std::pair<int, int>> experts;
  try {
    for (const model::ExpertPlace& place : model::ExpertSelector(selector).resolve(layout)) {
      experts.emplace_back(static_cast<int>(place.layer), static_cast<int>(place.expert));
    }
  } catch (const ConfigError& failure) {
    throw ExpertLayoutError(key, failure.what());
  }
  return experts;
}

// No router chooses shared experts, and nothing stands between them and the trunk.
void refuse_shared(const model::ExpertRuleSettings& rule, size_t index, const std::vector<std::pair<int, int>>& experts,
                   const model::ExpertLayout& layout) {
  const char* const key = rule.detached_input    ? "detached_input"
                          : rule.detached_router ? "detached_router"
                          : rule.dropout         ? "dropout"
                          : rule.loss_scale      ? "loss_scale"
                                                 : nullptr;
  if (key == nullptr) return;
  for (const auto& [layer, expert] : experts) {
    if (!layout.layer(layer).is_shared(expert)) continue;
    throw ExpertLayoutError(fmt::format("moe.rules[{}].{}", index, key),
                            fmt::format("{} is shared; wanted routed experts", rule.experts));
  }
}

}  // namespace

ExpertRules::ExpertRules(std::vector<model::ExpertRuleSettings> rules, const model::ExpertLayout& layout)
    : rules_(std::move(rules)) {
  for (size_t i = 0; i < rules_.size(); ++i) {
    experts_.push_back(selected(rules_[i].experts, fmt::format("moe.rules[{}].experts", i), layout));
    refuse_shared(rules_[i], i, experts_.back(), layout);
    if (!rules_[i].optimizer) continue;
    for (const std::pair<int, int>& expert : experts_.back()) optimizers_[expert] = *rules_[i].optimizer;
  }
  at(1, 1);
}

ExpertRules::ExpertRules(const model::MoeSettings& moe, const model::ExpertLayout& layout)
    : ExpertRules(moe.rules, layout) {
  if (!moe.train_only) return;
  trained_.emplace();
  for (size_t i = 0; i < moe.train_only->size(); ++i) {
    for (const auto& expert : selected((*moe.train_only)[i], fmt::format("moe.train_only[{}]", i), layout)) {
      trained_->insert(expert);
    }
  }
  const bool any = std::any_of(trained_->begin(), trained_->end(), [&](const std::pair<int, int>& expert) {
    return layout.layer(expert.first).set_of(expert.second).kind.has_weights();
  });
  if (!any) {
    throw ExpertLayoutError("moe.train_only",
                            "none of these experts has weights; wanted some of computation: full or constant");
  }
}

kernels::OptimizerKind ExpertRules::optimizer_of(int layer, int expert, kernels::OptimizerKind otherwise) const {
  const auto found = optimizers_.find({layer, expert});
  return found == optimizers_.end() ? otherwise : found->second;
}

bool ExpertRules::uses(kernels::OptimizerKind kind) const {
  return std::any_of(optimizers_.begin(), optimizers_.end(), [&](const auto& of) { return of.second == kind; });
}

ExpertRules::ByExpert ExpertRules::at(int64_t step, int64_t steps) const {
  const config::Variables variables{{"step", static_cast<double>(step)}, {"steps", static_cast<double>(steps)}};
  ByExpert all;
  for (size_t i = 0; i < rules_.size(); ++i) {
    const model::ExpertRuleSettings& rule = rules_[i];
    const auto number = [&](const char* key, const std::optional<config::Expression>& value) -> std::optional<double> {
      if (!value) return std::nullopt;
      const std::string where = fmt::format("moe.rules[{}].{}", i, key);
      double result = 0;
      try {
        result = config::evaluate(*value, variables);
      } catch (const ConfigError& failure) {
        throw ExpertLayoutError(where, fmt::format("at step {}: {}", step, failure.what()));
      }
      if (result < 0) throw ExpertLayoutError(where, fmt::format("is {} at step {}, wanted >= 0", result, step));
      return result;
    };
    const auto lr_scale = number("lr_scale", rule.lr_scale), weight_decay = number("weight_decay", rule.weight_decay);
    const auto below_one = [&](const char* key, const std::optional<config::Expression>& value) {
      const auto result = number(key, value);
      if (result && *result >= 1) {
        throw ExpertLayoutError(fmt::format("moe.rules[{}].{}", i, key),
                                fmt::format("is {} at step {}, wanted below 1", *result, step));
      }
      return result;
    };
    const auto above_zero = [&](const char* key, const std::optional<config::Expression>& value) {
      const auto result = number(key, value);
      if (result && *result == 0) {
        throw ExpertLayoutError(fmt::format("moe.rules[{}].{}", i, key),
                                fmt::format("is 0 at step {}, wanted > 0", step));
      }
      return result;
    };
    const auto beta1 = below_one("beta1", rule.beta1), beta2 = below_one("beta2", rule.beta2);
    const auto momentum = below_one("momentum", rule.momentum), eps = above_zero("eps", rule.eps);
    const auto loss_scale = above_zero("loss_scale", rule.loss_scale),
               clip_norm = above_zero("clip_norm", rule.clip_norm);
    const auto frozen = number("frozen", rule.frozen);
    const auto detached_input = number("detached_input", rule.detached_input);
    const auto detached_router = number("detached_router", rule.detached_router);
    const auto dropout = number("dropout", rule.dropout);
    if (dropout && *dropout > 1) {
      throw ExpertLayoutError(fmt::format("moe.rules[{}].dropout", i),
                              fmt::format("is {} at step {}, wanted a probability", *dropout, step));
    }
    for (const std::pair<int, int>& expert : experts_[i]) {
      ExpertRule& of = all[expert];
      if (lr_scale) of.lr_scale = *lr_scale;
      if (weight_decay) of.weight_decay = weight_decay;
      if (clip_norm) of.clip_norm = clip_norm;
      if (beta1) of.beta1 = beta1;
      if (beta2) of.beta2 = beta2;
      if (eps) of.eps = eps;
      if (momentum) of.momentum = momentum;
      if (loss_scale) of.loss_scale = *loss_scale;
      if (frozen) of.frozen = *frozen != 0;
      if (detached_input) of.detached_input = *detached_input != 0;
      if (detached_router) of.detached_router = *detached_router != 0;
      if (dropout) of.dropout = *dropout;
    }
  }
  return all;
}

}  // namespace cadre::optim
