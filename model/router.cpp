#include "model/router.h"

#include <fmt/core.h>

#include <cmath>

#include "autograd/ops/balance.h"
#include "autograd/ops/expert_choice.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/noise.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/router.h"
#include "kernels/elementwise.h"
#include "kernels/router.h"

namespace cadre::model {

using autograd::Variable;

namespace {

constexpr double kKeyEps = 1e-12;  // beside the mean square of a query or key

double value_of(const Variable& loss) { return *loss.tensor().data<double>(); }

// Beside the tape: nothing is kept for a backward, and nothing is computed again.
Tensor score_totals(const autograd::Context& context, const Tensor& scores) {
  Tensor totals = Tensor::empty(context.allocator, Dtype::kF64, Shape{scores.shape()[1] + 1});
  kernels::score_totals(context.exec, scores, totals);
  return totals;
}

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
          number("hinge_coef", settings.hinge_coef),       number("load_coef", settings.load_coef),
          number("entropy_coef", settings.entropy_coef),   number("z_loss_coef", settings.z_loss_coef)};
}

LayerRouter::LayerRouter(autograd::ParameterStore& store, const NetworkSettings& settings, const LayerExperts& experts,
                         int64_t layer)
    : settings_(settings.moe.router),
      balance_(settings.moe.balance),
      experts_(experts),
      layer_(layer),
      first_(balance_weights(balance_, 1, 1)) {
  const int64_t hidden = settings.model.hidden_size;
  const auto declare = [&](const char* name, int64_t rows, int64_t columns, double init_std) {
    return &store.declare(fmt::format("layers.{}.moe.router.{}", layer, name), Shape{rows, columns}, init_std, true);
  };
  const double init_std = settings.model.init_std;
  const bool keys = settings_.key_size > 0;
  weight_ = declare("weight", experts.experts(), keys ? settings_.key_size : hidden, init_std);
  if (keys) query_ = declare("query.weight", settings_.key_size, hidden, init_std);
  if (settings_.hierarchical) groups_ = declare("groups.weight", settings_.groups, hidden, init_std);
  if (settings_.noise) noise_ = declare("noise.weight", experts.experts(), hidden, 0);
}

uint64_t LayerRouter::stream(const ForwardOptions& options) const {
  return static_cast<uint64_t>(options.step) << 16 | static_cast<uint64_t>(layer_);
}

kernels::Choice LayerRouter::choice(const ForwardOptions& options) const {
  kernels::Choice choice;
  choice.kind = settings_.choice;
  choice.top_p = settings_.top_p;
  choice.groups = settings_.groups;
  choice.kept_groups = settings_.kept_groups;
  choice.group_score = settings_.group_score;
  choice.seed = options.seed;
  choice.stream = stream(options);
  choice.first_row = options.first_token;
  return choice;
}

// With keys: cosines / temperature. RMSNorm makes a row's length the root of its size times the weight.
Variable LayerRouter::logits(autograd::Tape& tape, const Variable& x) const {
  if (query_ == nullptr) return tape.apply<autograd::GroupedLinear>({x, Variable::of(*weight_), Variable()});
  const autograd::Context& context = tape.context();
  const Tensor length = Tensor::empty(context.allocator, context.dtype, Shape{settings_.key_size});
  kernels::fill(context.exec, length, 1 / (settings_.temperature * std::sqrt(static_cast<double>(settings_.key_size))));
  Variable queries = tape.apply<autograd::GroupedLinear>({x, Variable::of(*query_), Variable()});
  queries = tape.apply<autograd::RmsNorm>({std::move(queries), Variable::leaf(length)}, kKeyEps);
  Variable keys = tape.apply<autograd::UnitRows>({Variable::of(*weight_)});
  return tape.apply<autograd::GroupedLinear>({std::move(queries), std::move(keys), Variable()});
}

LayerRouter::Scored LayerRouter::score(autograd::Tape& tape, const ForwardOptions& options, Variable x,
                                       const Variable& bias) const {
  const kernels::RowDraws draws{options.seed, stream(options), options.first_token};
  if (options.training && settings_.jitter > 0) {
    x = tape.apply<autograd::Jitter>({std::move(x)}, settings_.jitter, draws);
  }
  Scored scored;
  Variable of_experts = logits(tape, x);
  if (options.training && noise_ != nullptr) {
    scored.logits = of_experts;
    scored.spread = tape.apply<autograd::GroupedLinear>({x, Variable::of(*noise_), Variable()});
    of_experts = scored.noisy = tape.apply<autograd::AddNoise>({std::move(of_experts), scored.spread}, draws);
  }
  std::vector<Variable> out;
  if (groups_ != nullptr) {
    Variable of_groups = tape.apply<autograd::GroupedLinear>({x, Variable::of(*groups_), Variable()});
    out = tape.apply_all<autograd::TwoLevelScores>({std::move(of_groups), std::move(of_experts), bias});
  } else {
    out = tape.apply_all<autograd::RouterScores>({std::move(of_experts), bias}, settings_.score);
  }
  scored.scores = out[0];
  scored.lse = out[1];
  return scored;
}

LayerRouter::Routed LayerRouter::forward(autograd::Tape& tape, const ForwardOptions& options, const Variable& x,
                                         const Tensor& replay, const LayerControls& controls) const {
  const Variable bias = leaf_or_none(controls.bias);
  const Scored scored = score(tape, options, x, bias);
  Routed routed;
  routed.result.layer = layer_;
  choose(tape, options, scored.scores, replay, controls, routed);
  routed.weights =
      tape.apply<autograd::GateWeights>({scored.scores, routed.ids}, settings_.renormalise, settings_.scale);
  routed.result.ids = routed.ids.tensor();
  if (options.measure_scores) routed.result.score_totals = score_totals(tape.context(), scored.scores.tensor());
  add_losses(tape, options, scored, controls, routed);
  return routed;
}

// Experts that choose see the tokens of this micro-batch alone; outside training, where a token's neighbours must not
// matter, they go by what they took in training.
void LayerRouter::choose(autograd::Tape& tape, const ForwardOptions& options, const Variable& scores,
                         const Tensor& replay, const LayerControls& controls, Routed& routed) const {
  const Variable bias = leaf_or_none(controls.bias);
  if (settings_.choice != kernels::ChoiceKind::kExpert) {
    routed.ids =
        tape.apply<autograd::ChooseExperts>({scores, bias, leaf_or_none(replay)}, experts_.top_k, choice(options));
    return;
  }
  const Variable thresholds = options.training ? Variable() : leaf_or_none(controls.thresholds);
  auto out = tape.apply_all<autograd::ExpertChoice>({scores, bias, thresholds, leaf_or_none(replay)}, experts_.top_k);
  routed.ids = out[autograd::ExpertChoice::kIds];
  routed.result.lowest = out[autograd::ExpertChoice::kLowest].tensor();
}

Variable LayerRouter::shares(autograd::Tape& tape, const Variable& scores) const {
  if (settings_.score == autograd::ScoreKind::kSoftmax) return scores;
  return tape.apply<autograd::RowShares>({scores});
}

void LayerRouter::add_losses(autograd::Tape& tape, const ForwardOptions& options, const Scored& scored,
                             const LayerControls& controls, Routed& routed) const {
  using autograd::LoadMeasure;
  using autograd::LossWeight;
  const int64_t experts = experts_.experts();
  const int64_t scopes = options.training && balance_.scope == BalanceScope::kSequence ? options.sequences : 1;
  const Variable counts = tape.apply<autograd::ChoiceCounts>({routed.ids}, scopes, experts);
  RoutingResult& result = routed.result;
  result.counts = counts.tensor();
  if (!options.training) return;
  const bool global = balance_.scope == BalanceScope::kGlobalBatch;
  const BalanceWeights coef = options.balance.value_or(first_);
  const double scope_tokens = static_cast<double>(scored.scores.shape()[0]) / static_cast<double>(scopes);
  const auto weight = [&](double of_loss) { return LossWeight{of_loss, options.global_tokens}; };
  const auto add = [&](Variable loss) {
    tape.pin(loss);
    result.balance_losses.push_back(std::move(loss));
  };
  const auto sums_of = [&](Variable values) { return tape.apply<autograd::ScopeSums>({std::move(values)}, scopes); };
  const auto add_measure = [&](const Variable& loads, const Tensor& before, LoadMeasure kind, double of_loss) {
    if (of_loss == 0) return;
    add(tape.apply<autograd::LoadLoss>({loads, global ? leaf_or_none(before) : Variable()}, kind, scope_tokens,
                                       weight(of_loss)));
  };
  if (coef.aux != 0) {
    const Variable sums = sums_of(shares(tape, scored.scores));
    result.score_sums = sums.tensor();
    Variable fractions = global ? leaf_or_none(controls.fractions) : Variable();
    add(tape.apply<autograd::SwitchLoss>({sums, counts, std::move(fractions)}, weight(coef.aux)));
  }
  if (coef.importance != 0 || coef.hinge != 0) {
    const Variable loads = sums_of(tape.apply<autograd::SpreadWeights>({routed.weights, routed.ids}, experts));
    add_measure(loads, controls.loads, LoadMeasure::kVariation, coef.importance);
    add_measure(loads, controls.loads, LoadMeasure::kHinge, coef.hinge);
    if (global) result.loads = loads.tensor();
  }
  if (coef.load != 0 && experts_.top_k < experts) {
    const Variable loads =
        sums_of(tape.apply<autograd::NoisyLoad>({scored.logits, scored.spread, scored.noisy}, experts_.top_k));
    add_measure(loads, controls.smooth_loads, LoadMeasure::kVariation, coef.load);
    if (global) result.smooth_loads = loads.tensor();
  }
  if (coef.entropy != 0) add(tape.apply<autograd::EntropyLoss>({scored.scores}, weight(coef.entropy)));
  if (coef.z != 0) {
    result.z_loss = tape.apply<autograd::ZLoss>({scored.lse}, weight(coef.z));
    tape.pin(result.z_loss);
  }
}

}  // namespace cadre::model
