#include "model/feed_forward.h"

#include <cmath>

#include "autograd/ops/activation.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/permute.h"
#include "autograd/ops/router.h"

namespace cadre::model {

using autograd::Variable;

namespace {

// For the one group of a plain layer.
parallel::ExpertRows all_rows(Variable x) { return {std::move(x), Variable(), {0, 1}}; }

}  // namespace

ExpertGroup::ExpertGroup(autograd::ParameterStore& store, const std::string& name,
                         const std::vector<GroupName>& members, int64_t hidden, int64_t ffn,
                         kernels::Activation activation, double init_std, double output_std, int lanes)
    : activation_(activation) {
  const bool gated = activation == kernels::Activation::kSwiGlu;
  const int64_t groups = static_cast<int64_t>(members.size()), up_rows = gated ? 2 * ffn : ffn;
  if (groups == 0) return;
  std::vector<autograd::Segment> up, down;
  for (int64_t g = 0; g < groups; ++g) {
    const auto& [group, expert] = members[static_cast<size_t>(g)];
    up.push_back({group + ".w1", Shape{ffn, hidden}, g * up_rows * hidden, expert});
    if (gated) up.push_back({group + ".w3", Shape{ffn, hidden}, (g * up_rows + ffn) * hidden, expert});
    down.push_back({group + ".w2", Shape{hidden, ffn}, g * hidden * ffn, expert});
  }
  up_ = &store.declare(name + ".up", Shape{groups, up_rows, hidden}, init_std, true, std::move(up));
  down_ = &store.declare(name + ".down", Shape{groups, hidden, ffn}, output_std, true, std::move(down));
  up_->lanes = down_->lanes = lanes;
}

Variable ExpertGroup::forward(autograd::Tape& tape, const RecomputeSettings& recompute,
                              parallel::ExpertRows rows) const {
  const auto linear = [&](Variable x, autograd::Parameter& stack) {
    std::vector<Variable> inputs{std::move(x), Variable::of(stack, rows.experts.first, rows.experts.count),
                                 rows.offsets};
    if (rows.lanes > 1) inputs.push_back(rows.cells);
    return tape.apply<autograd::GroupedLinear>(std::move(inputs), rows.lanes);
  };
  Variable hidden = linear(std::move(rows.rows), *up_);
  Variable activated;
  {
    const autograd::RecomputeScope scope(tape, recompute.part(RecomputePart::kExpertActivations));
    activated = tape.apply<autograd::ExpertActivation>({std::move(hidden), rows.offsets}, activation_);
  }
  return linear(std::move(activated), *down_);
}

FeedForward::FeedForward(autograd::ParameterStore& store, const NetworkSettings& settings, int64_t layer,
                         const ExpertShard& shard)
    : settings_(settings), layer_(layer), dispatcher_(shard.dispatcher) {
  const ModelSettings& model = settings.model;
  const MoeSettings& moe = settings.moe;
  const std::string prefix = "layers." + std::to_string(layer);
  const double output_std = model.init_std / std::sqrt(2.0 * static_cast<double>(model.num_layers));
  if (!settings.is_moe(layer)) {
    shared_.emplace(store, prefix + ".mlp", std::vector{GroupName{prefix + ".mlp"}}, model.hidden_size,
                    model.dense_ffn(), model.activation, model.init_std, output_std);
    return;
  }
  router_ =
      &store.declare(prefix + ".moe.router.weight", Shape{moe.num_experts, model.hidden_size}, model.init_std, true);
  std::vector<GroupName> groups;
  for (const int64_t expert : shard.held) {
    groups.push_back({prefix + ".moe.experts." + std::to_string(expert), static_cast<int>(expert)});
  }
  experts_.emplace(store, prefix + ".moe.experts", groups, model.hidden_size, settings.expert_ffn(), model.activation,
                   model.init_std, output_std, dispatcher_->lanes());
  if (moe.shared_experts > 0) {
    const std::string name = prefix + ".moe.shared";
    shared_.emplace(store, name, std::vector{GroupName{name}}, model.hidden_size,
                    moe.shared_experts * settings.expert_ffn(), model.activation, model.init_std, output_std);
  }
}

Variable FeedForward::forward(autograd::Tape& tape, const ForwardOptions& options, Variable x, const Tensor& replay,
                              const Tensor& fractions, std::vector<RoutingResult>& routing) const {
  if (!experts_) return shared_->forward(tape, settings_.recompute, all_rows(std::move(x)));
  return routed(tape, options, x, replay, fractions, routing);
}

Variable FeedForward::routed(autograd::Tape& tape, const ForwardOptions& options, const Variable& x,
                             const Tensor& replay, const Tensor& fractions, std::vector<RoutingResult>& routing) const {
  using autograd::Router;
  const MoeSettings& moe = settings_.moe;
  const int64_t tokens = x.shape()[0];
  const BalanceSettings& balance = moe.balance;
  autograd::RouterOptions router{.top_k = moe.top_k, .renormalise = moe.router.renormalise};
  if (options.training) {
    router.scopes = balance.scope == BalanceScope::kSequence ? options.sequences : 1;
    router.balance_coef = balance.aux_loss_coef;
    router.z_coef = balance.z_loss_coef;
    router.global_tokens = options.global_tokens;
  }
  const bool global = options.training && balance.scope == BalanceScope::kGlobalBatch && fractions;
  Variable logits = tape.apply<autograd::GroupedLinear>({x, Variable::of(*router_), Variable()});
  auto out = tape.apply_all<Router>({std::move(logits), replay ? Variable::leaf(replay) : Variable(),
                                     global ? Variable::leaf(fractions) : Variable()},
                                    router);
  tape.pin(out[Router::kBalanceLoss]);
  tape.pin(out[Router::kZLoss]);
  int64_t capacity = -1;
  if (options.training && moe.capacity_factor) {
    const double fair = static_cast<double>(tokens * moe.top_k) / static_cast<double>(moe.num_experts);
    const double most = *moe.capacity_factor * fair;
    capacity = static_cast<int64_t>(std::ceil(most - 1e-9 * most));  // 1.1 * 100 is 110, not 111
  }
  auto plan = tape.apply_all<autograd::PlanRows>({out[Router::kIds], out[Router::kWeights]}, moe.num_experts, capacity,
                                                 moe.drop_policy);
  const Variable &offsets = plan[0], &row_of_slot = plan[1], &slot_of_row = plan[2];
  routing.push_back({layer_, out[Router::kBalanceLoss], out[Router::kZLoss], out[Router::kCounts].tensor(),
                     out[Router::kProbSums].tensor(), out[Router::kIds].tensor(), offsets.tensor()});
  Variable rows = tape.apply<autograd::GatherRows>({x, slot_of_row, row_of_slot, offsets});
  const auto experts = [this](autograd::Tape& on, parallel::ExpertRows local) {
    return experts_->forward(on, settings_.recompute, std::move(local));
  };
  Variable base;
  const auto meanwhile = [&] {
    if (shared_) base = shared_->forward(tape, settings_.recompute, all_rows(x));
  };
  Variable y = dispatcher_->run(tape, std::move(rows), offsets, static_cast<int>(layer_), experts, meanwhile);
  return tape.apply<autograd::CombineRows>({std::move(y), row_of_slot, out[Router::kWeights], std::move(base)});
}

}  // namespace cadre::model
