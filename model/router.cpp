#include "model/router.h"

#include <fmt/core.h>

#include "autograd/ops/balance.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/router.h"

namespace cadre::model {

using autograd::Variable;

namespace {

double value_of(const Variable& loss) { return *loss.tensor().data<double>(); }

Variable leaf_or_none(const Tensor& tensor) { return tensor ? Variable::leaf(tensor) : Variable(); }

}  // namespace

double RoutingResult::balance_loss() const {
  double sum = 0;
  for (const Variable& loss : balance_losses) sum += value_of(loss);
  return sum;
}

double RoutingResult::z_loss_value() const { return z_loss ? value_of(z_loss) : 0; }

std::vector<Variable> RoutingResult::losses() const {
  std::vector<Variable> all = balance_losses;
  if (z_loss) all.push_back(z_loss);
  return all;
}

BalanceWeights balance_weights(const BalanceSettings& settings, int64_t step, int64_t steps) {
  const config::Variables variables{{"step", static_cast<double>(step)}, {"steps", static_cast<double>(steps)}};
  const auto number = [&](const char* key, const config::Expression& coefficient) {
    try {
      return config::evaluate(coefficient, variables);
    } catch (const ConfigError& failure) {
      throw ExpertLayoutError(fmt::format("moe.balance.{}", key), fmt::format("at step {}: {}", step, failure.what()));
    }
  };
  return {number("aux_loss_coef", settings.aux_loss_coef), number("importance_coef", settings.importance_coef),
          number("hinge_coef", settings.hinge_coef), number("entropy_coef", settings.entropy_coef),
          number("z_loss_coef", settings.z_loss_coef)};
}

LayerRouter::LayerRouter(autograd::ParameterStore& store, const NetworkSettings& settings, const LayerExperts& experts,
                         int64_t layer)
    : settings_(settings.moe.router),
      balance_(settings.moe.balance),
      experts_(experts),
      layer_(layer),
      weight_(&store.declare(fmt::format("layers.{}.moe.router.weight", layer),
                             Shape{experts.experts(), settings.model.hidden_size}, settings.model.init_std, true)),
      first_(balance_weights(balance_, 1, 1)) {}

kernels::Choice LayerRouter::choice(const ForwardOptions& options) const {
  kernels::Choice choice;
  choice.kind = settings_.choice;
  choice.top_p = settings_.top_p;
  choice.groups = settings_.groups;
  choice.kept_groups = settings_.kept_groups;
  choice.group_score = settings_.group_score;
  choice.seed = options.seed;
  choice.stream = static_cast<uint64_t>(options.step) << 16 | static_cast<uint64_t>(layer_);
  choice.first_row = options.first_token;
  return choice;
}

LayerRouter::Routed LayerRouter::forward(autograd::Tape& tape, const ForwardOptions& options, const Variable& x,
                                         const Tensor& replay, const LayerControls& controls) const {
  Variable logits = tape.apply<autograd::GroupedLinear>({x, Variable::of(*weight_), Variable()});
  const Variable bias = leaf_or_none(controls.bias);
  const auto scored = tape.apply_all<autograd::RouterScores>({std::move(logits), bias}, settings_.score);
  const Variable &scores = scored[autograd::RouterScores::kScores], &lse = scored[autograd::RouterScores::kLse];
  Routed routed;
  routed.result.layer = layer_;
  routed.ids =
      tape.apply<autograd::ChooseExperts>({scores, bias, leaf_or_none(replay)}, experts_.top_k, choice(options));
  routed.weights = tape.apply<autograd::GateWeights>({scores, routed.ids}, settings_.renormalise, settings_.scale);
  routed.result.ids = routed.ids.tensor();
  add_losses(tape, options, scores, lse, controls, routed);
  return routed;
}

Variable LayerRouter::shares(autograd::Tape& tape, const Variable& scores) const {
  if (settings_.score == autograd::ScoreKind::kSoftmax) return scores;
  return tape.apply<autograd::RowShares>({scores});
}

void LayerRouter::add_losses(autograd::Tape& tape, const ForwardOptions& options, const Variable& scores,
                             const Variable& lse, const LayerControls& controls, Routed& routed) const {
  using autograd::LossWeight;
  const int64_t experts = experts_.experts();
  const int64_t scopes = options.training && balance_.scope == BalanceScope::kSequence ? options.sequences : 1;
  const Variable counts = tape.apply<autograd::ChoiceCounts>({routed.ids}, scopes, experts);
  RoutingResult& result = routed.result;
  result.counts = counts.tensor();
  if (!options.training) return;
  const bool global = balance_.scope == BalanceScope::kGlobalBatch;
  const BalanceWeights coef = options.balance.value_or(first_);
  const auto weight = [&](double of_loss) { return LossWeight{of_loss, options.global_tokens}; };
  const auto add = [&](Variable loss) {
    tape.pin(loss);
    result.balance_losses.push_back(std::move(loss));
  };
  Variable sums = tape.apply<autograd::ScopeSums>({shares(tape, scores)}, scopes);
  result.score_sums = sums.tensor();
  if (coef.aux != 0) {
    Variable fractions = global ? leaf_or_none(controls.fractions) : Variable();
    add(tape.apply<autograd::SwitchLoss>({std::move(sums), counts, std::move(fractions)}, weight(coef.aux)));
  }
  if (coef.importance != 0 || coef.hinge != 0) {
    Variable spread = tape.apply<autograd::SpreadWeights>({routed.weights, routed.ids}, experts);
    const Variable loads = tape.apply<autograd::ScopeSums>({std::move(spread)}, scopes);
    const Variable before = global ? leaf_or_none(controls.loads) : Variable();
    const double tokens = static_cast<double>(scores.shape()[0]) / static_cast<double>(scopes);
    const auto measure = [&](autograd::LoadMeasure kind, double of_loss) {
      if (of_loss != 0) add(tape.apply<autograd::LoadLoss>({loads, before}, kind, tokens, weight(of_loss)));
    };
    measure(autograd::LoadMeasure::kVariation, coef.importance);
    measure(autograd::LoadMeasure::kHinge, coef.hinge);
    if (global) result.loads = loads.tensor();
  }
  if (coef.entropy != 0) add(tape.apply<autograd::EntropyLoss>({scores}, weight(coef.entropy)));
  if (coef.z != 0) {
    result.z_loss = tape.apply<autograd::ZLoss>({lse}, weight(coef.z));
    tape.pin(result.z_loss);
  }
}

}  // namespace cadre::model
