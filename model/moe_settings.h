#pragma once
// Experts, their routers and losses: `moe` of a config.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "autograd/ops/router.h"
#include "core/config/expression.h"
#include "core/config/fields.h"
#include "kernels/activation.h"
#include "kernels/optimizer.h"
#include "kernels/permute.h"
#include "model/surgery_settings.h"

namespace cadre::model {

enum class BalanceScope { kSequence, kMicroBatch, kGlobalBatch };

// Coefficients know step (from 1) and steps, those of the run.
struct BalanceSettings {
  config::Expression aux_loss_coef = 0.01;
  BalanceScope scope = BalanceScope::kMicroBatch;
  config::Expression importance_coef = 0.0;
  config::Expression hinge_coef = 0.0;
  config::Expression load_coef = 0.0;
  config::Expression entropy_coef = 0.0;
  config::Expression z_loss_coef = 0.001;
};

struct RouterSettings {
  autograd::ScoreKind score = autograd::ScoreKind::kSoftmax;
  kernels::ChoiceKind choice = kernels::ChoiceKind::kTopK;
  bool allow_future_tokens = false;  // without which nothing trains by choice: expert
  double top_p = 0.8;
  int64_t groups = 1;
  int64_t kept_groups = 1;
  kernels::GroupScore group_score = kernels::GroupScore::kTopTwo;
  bool renormalise = true;
  double scale = 1;
  double bias_update_rate = 0;
  bool hierarchical = false;
  int64_t key_size = 0;
  double temperature = 0.07;
  double jitter = 0;
  bool noise = false;
};

// A kind of experts. Expressions know the layer, and what else expert_layout.h lists.
struct ExpertGroupSettings {
  std::string name;
  std::string each;  // "i = 0..3": a group for every i, whose name has {i}
  config::Expression when = 1;
  config::Expression count = 1;
  ExpertComputation computation = ExpertComputation::kFull;
  config::Auto<config::Expression> ffn_hidden_size;  // of one expert; auto: moe.ffn_hidden_size
  config::Auto<kernels::Activation> activation;      // auto: model.activation
  config::Auto<config::Expression> init_std;         // auto: model.init_std
  std::string placement = "even";                    // expert_kind.h
  bool shared = false;                               // every token takes them
};

// What is different in the layers for which `when` is true.
struct ExpertLayerSettings {
  config::Expression when = 1;
  bool dense = false;
  std::optional<config::Expression> top_k;
  std::optional<std::vector<ExpertGroupSettings>> groups;
};

// What training does differently with some experts. Expressions know step (from 1) and steps, those of the run.
struct ExpertRuleSettings {
  std::string experts;  // expert_selector.h
  std::optional<kernels::OptimizerKind> optimizer;
  std::optional<config::Expression> lr_scale;
  std::optional<config::Expression> weight_decay;
  std::optional<config::Expression> clip_norm;
  std::optional<config::Expression> beta1, beta2, eps, momentum;
  std::optional<config::Expression> loss_scale;
  std::optional<config::Expression> frozen;
  std::optional<config::Expression> detached_input;
  std::optional<config::Expression> detached_router;
  std::optional<config::Expression> dropout;
};

// A factor on the backward of an expert's output, grown and shrunk for each expert by itself.
struct LossScaleSettings {
  double initial = 65536;
  double factor = 2;
  int64_t growth_interval = 2000;  // good steps in a row before it grows
  double most = 16777216;
};

struct QuarantineSettings {
  int64_t steps = 100;
  int64_t snapshot_every = 100;  // steps
};

// Experts whose gradients neither stop nor scale the update of anything else, nor the other way round.
struct IsolationSettings {
  std::string experts = "layers.*.experts.*";     // expert_selector.h
  config::Auto<std::optional<double>> clip_norm;  // auto: optimizer.clip_norm; null: none
  bool normalise_by_tokens = false;
  int64_t accumulate_tokens = 0;  // 0: each step updates
  bool skip_idle = false;
  std::optional<LossScaleSettings> loss_scale;  // null: 1
  std::optional<QuarantineSettings> quarantine;
};

struct MoeSettings {
  int64_t num_experts = 0;  // 0: a dense model, or one of `groups`
  int64_t top_k = 2;
  std::map<std::string, config::Expression> variables;
  std::vector<ExpertGroupSettings> groups;
  std::vector<ExpertLayerSettings> layers;
  std::vector<EditedLayerSettings> edited_layers;
  std::vector<ExpertRuleSettings> rules;
  std::vector<ExpertEventSettings> events;
  std::optional<IsolationSettings> isolation;
  std::optional<std::vector<std::string>> train_only;  // expert_selector.h; null: everything is trained
  config::Auto<int64_t> ffn_hidden_size;               // of one expert; auto: model.ffn_hidden_size
  int64_t shared_experts = 0;                          // always active, each of ffn_hidden_size
  int64_t dense_layers = 0;                            // leading layers without experts
  std::optional<double> capacity_factor;               // null: dropless
  kernels::DropPolicy drop_policy = kernels::DropPolicy::kByScore;
  RouterSettings router;
  BalanceSettings balance;
};

}  // namespace cadre::model

template <>
struct cadre::config::EnumNames<cadre::kernels::DropPolicy> {
  using enum cadre::kernels::DropPolicy;
  static constexpr EnumName<cadre::kernels::DropPolicy> values[] = {{kByScore, "score"}, {kByPosition, "position"}};
};
template <>
struct cadre::config::EnumNames<cadre::kernels::OptimizerKind> {
  using enum cadre::kernels::OptimizerKind;
  static constexpr EnumName<cadre::kernels::OptimizerKind> values[] = {{kAdamW, "adamw"}, {kSgd, "sgd"}};
};
template <>
struct cadre::config::EnumNames<cadre::autograd::ScoreKind> {
  using enum cadre::autograd::ScoreKind;
  static constexpr EnumName<cadre::autograd::ScoreKind> values[] = {{kSoftmax, "softmax"}, {kSigmoid, "sigmoid"}};
};
template <>
struct cadre::config::EnumNames<cadre::kernels::ChoiceKind> {
  using enum cadre::kernels::ChoiceKind;
  static constexpr EnumName<cadre::kernels::ChoiceKind> values[] = {
      {kTopK, "top_k"}, {kTopP, "top_p"}, {kRandom, "random"}, {kBalanced, "balanced"}, {kExpert, "expert"}};
};
template <>
struct cadre::config::EnumNames<cadre::kernels::GroupScore> {
  using enum cadre::kernels::GroupScore;
  static constexpr EnumName<cadre::kernels::GroupScore> values[] = {{kMax, "max"}, {kTopTwo, "top_two"}};
};
template <>
struct cadre::config::EnumNames<cadre::model::BalanceScope> {
  using enum cadre::model::BalanceScope;
  static constexpr EnumName<cadre::model::BalanceScope> values[] = {
      {kSequence, "sequence"}, {kMicroBatch, "micro_batch"}, {kGlobalBatch, "global_batch"}};
};
namespace cadre::config {
template <>
struct Schema<model::ExpertGroupSettings> {
  static void fields(Fields<model::ExpertGroupSettings>& f);
  static void check(const model::ExpertGroupSettings& s, Problems& problems);
};
template <>
struct Schema<model::ExpertLayerSettings> {
  static void fields(Fields<model::ExpertLayerSettings>& f);
};
template <>
struct Schema<model::ExpertRuleSettings> {
  static void fields(Fields<model::ExpertRuleSettings>& f);
};
template <>
struct Schema<model::LossScaleSettings> {
  static void fields(Fields<model::LossScaleSettings>& f);
  static void check(const model::LossScaleSettings& s, Problems& problems);
};
template <>
struct Schema<model::QuarantineSettings> {
  static void fields(Fields<model::QuarantineSettings>& f);
};
template <>
struct Schema<model::IsolationSettings> {
  static void fields(Fields<model::IsolationSettings>& f);
};
template <>
struct Schema<model::BalanceSettings> {
  static void fields(Fields<model::BalanceSettings>& f);
};
template <>
struct Schema<model::RouterSettings> {
  static void fields(Fields<model::RouterSettings>& f);
  static void check(const model::RouterSettings& s, Problems& problems);
};
template <>
struct Schema<model::MoeSettings> {
  static void fields(Fields<model::MoeSettings>& f);
  static void check(const model::MoeSettings& s, Problems& problems);
};
}  // namespace cadre::config
