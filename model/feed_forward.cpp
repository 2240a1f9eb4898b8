#include "model/feed_forward.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops/expert_choice.h"
#include "autograd/ops/guard.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/permute.h"

namespace cadre::model {

using autograd::Variable;

namespace {

// For the one group of a plain layer.
parallel::ExpertRows all_rows(Variable x) { return {std::move(x), Variable(), {0, 1}}; }

}  // namespace

ExpertGroup::ExpertGroup(autograd::ParameterStore& store, const std::string& name,
                         const std::vector<ExpertSpec>& experts, int64_t hidden, int lanes) {
  std::vector<std::span<const ExpertSpec>> runs;
  for (auto begin = experts.begin(); begin != experts.end();) {
    const auto end =
        std::find_if_not(begin, experts.end(), [&](const ExpertSpec& expert) { return expert.stack == begin->stack; });
    runs.emplace_back(begin, end);
    begin = end;
  }
  for (const std::span<const ExpertSpec> run : runs) {
    const std::string& stack = run.front().stack;
    add_stack(store, stack.empty() ? name : name + "." + stack, run, hidden, lanes);
  }
}

void ExpertGroup::add_stack(autograd::ParameterStore& store, const std::string& name,
                            std::span<const ExpertSpec> experts, int64_t hidden, int lanes) {
  const ExpertSpec& kind = experts.front();
  const bool gated = kind.activation == kernels::Activation::kSwiGlu;
  const autograd::ActivationStack stack{kind.activation, static_cast<int64_t>(experts.size()), kind.ffn};
  const int64_t ffn = kind.ffn, up_rows = stack.hidden();
  std::vector<autograd::Segment> up, down;
  for (int64_t g = 0; g < stack.groups; ++g) {
    const ExpertSpec& expert = experts[static_cast<size_t>(g)];
    up.push_back({expert.name + ".w1", Shape{ffn, hidden}, g * up_rows * hidden, expert.expert});
    if (gated) up.push_back({expert.name + ".w3", Shape{ffn, hidden}, (g * up_rows + ffn) * hidden, expert.expert});
    down.push_back({expert.name + ".w2", Shape{hidden, ffn}, g * hidden * ffn, expert.expert});
  }
  const Shape up_shape{stack.groups, up_rows, hidden}, down_shape{stack.groups, hidden, ffn};
  autograd::Parameter& first = store.declare(name + ".up", up_shape, kind.init_std, true, std::move(up));
  autograd::Parameter& second = store.declare(name + ".down", down_shape, kind.output_std, true, std::move(down));
  first.lanes = second.lanes = lanes;
  stacks_.push_back({stack, count_, &first, &second});
  count_ += stack.groups;
}

std::vector<ExpertGroup::StackPart> ExpertGroup::parts_of(const parallel::LocalExperts& experts) const {
  std::vector<StackPart> parts;
  for (const Stack& stack : stacks_) {
    const int64_t begin = std::max(experts.first, stack.first);
    const int64_t end = std::min(experts.first + experts.count, stack.first + stack.kind.groups);
    if (begin < end) parts.push_back({stack, begin - stack.first, end - begin});
  }
  return parts;
}

Variable ExpertGroup::forward(autograd::Tape& tape, const RecomputeSettings& recompute,
                              parallel::ExpertRows rows) const {
  const std::vector<StackPart> parts = parts_of(rows.experts);
  const auto linear = [&](Variable x, autograd::Parameter* Stack::*weight) {
    const auto part = [&](size_t i) { return Variable::of(*(parts[i].stack.*weight), parts[i].first, parts[i].count); };
    std::vector<Variable> inputs{std::move(x), part(0), rows.offsets};
    if (rows.lanes > 1 || parts.size() > 1) inputs.push_back(rows.cells);
    for (size_t i = 1; i < parts.size(); ++i) inputs.push_back(part(i));
    return tape.apply<autograd::GroupedLinear>(std::move(inputs), rows.lanes, parts.size());
  };
  const auto activate = [&](Variable hidden) {
    const autograd::RecomputeScope scope(tape, recompute.part(RecomputePart::kExpertActivations));
    if (parts.size() == 1) {
      return tape.apply<autograd::ExpertActivation>({std::move(hidden), rows.offsets}, parts[0].stack.kind.kind);
    }
    std::vector<autograd::ActivationStack> stacks;
    for (const auto& [stack, first, count] : parts) stacks.push_back({stack.kind.kind, count, stack.kind.ffn});
    return tape.apply<autograd::ExpertActivation>({std::move(hidden), rows.offsets}, std::move(stacks));
  };
  Variable hidden = linear(std::move(rows.rows), &Stack::up);
  return linear(activate(std::move(hidden)), &Stack::down);
}

FeedForward::FeedForward(autograd::ParameterStore& store, const NetworkSettings& settings, const LayerExperts& experts,
                         int64_t layer, const ExpertShard& shard)
    : settings_(settings), layout_(experts), layer_(layer), dispatcher_(shard.dispatcher) {
  const ModelSettings& model = settings.model;
  const std::string prefix = "layers." + std::to_string(layer);
  const double shrink = std::sqrt(2.0 * static_cast<double>(model.num_layers));
  const auto spec = [&](const std::string& name, int place, const ExpertKind& kind, int64_t count = 1) {
    return ExpertSpec{
        name, place, count * kind.ffn_hidden_size, kind.activation, kind.init_std, kind.init_std / shrink};
  };
  // Experts that all tokens take are one wide one.
  const auto add_wide = [&](const std::string& name, int64_t count, const ExpertKind& kind, int64_t place = -1) {
    const auto expert = static_cast<int>(place);
    shared_.emplace_back(store, name, std::vector{spec(name, expert, kind, count)}, model.hidden_size);
  };
  if (!experts.is_moe()) {
    add_wide(prefix + ".mlp", 1, {model.dense_ffn(), model.activation, model.init_std});
    return;
  }
  router_.emplace(store, settings, experts, layer);
  std::vector<ExpertSpec> held;
  for (const int64_t expert : shard.held) {
    const std::string name = prefix + ".moe.experts." + std::to_string(experts.id_of(expert));
    held.push_back(spec(name, static_cast<int>(expert), experts.set_of(expert).kind));
    if (experts.kinds_in_a_row() > 1) held.back().stack = std::to_string(experts.kind_index(expert));
  }
  experts_.emplace(store, prefix + ".moe.experts", held, model.hidden_size, dispatcher_->lanes());
  add_simple(store, prefix + ".moe.experts");
  for (size_t i = 0; i < experts.shared.size(); ++i) {
    const ExpertSet& set = experts.shared[i];
    add_wide(prefix + ".moe.shared" + (set.name.empty() ? "" : "." + set.name), set.count, set.kind,
             experts.shared_place(i));
  }
}

// Parameters of constant experts are each rank's, as dense ones: a vector, and two rows that mix it with the token.
void FeedForward::add_simple(autograd::ParameterStore& store, const std::string& prefix) {
  const int64_t hidden = settings_.model.hidden_size;
  simple_.first = layout_.computing();
  std::vector<autograd::Segment> segments;
  int32_t constants = 0;
  for (int64_t expert = simple_.first; expert < layout_.experts(); ++expert) {
    const ExpertKind& kind = layout_.set_of(expert).kind;
    if (kind.computation != ExpertComputation::kConstant) {
      const bool copies = kind.computation == ExpertComputation::kCopy;
      simple_.kinds.push_back(copies ? kernels::SimpleExperts::kCopy : kernels::SimpleExperts::kZero);
      continue;
    }
    const std::string name = prefix + "." + std::to_string(layout_.id_of(expert));
    const int64_t begin = 3 * hidden * constants;
    segments.push_back({name + ".v", Shape{hidden}, begin, static_cast<int>(expert)});
    segments.push_back({name + ".mix", Shape{2, hidden}, begin + hidden, static_cast<int>(expert)});
    simple_.kinds.push_back(constants++);
  }
  if (constants == 0) return;
  constants_ = &store.declare(prefix + ".constants", Shape{constants, 3, hidden}, settings_.model.init_std, true,
                              std::move(segments));
}

Variable FeedForward::forward(autograd::Tape& tape, const ForwardOptions& options, Variable x, const Tensor& replay,
                              const LayerControls& controls, std::vector<RoutingResult>& routing) const {
  if (!experts_) return shared_.front().forward(tape, settings_.recompute, all_rows(std::move(x)));
  return routed(tape, options, x, replay, controls, routing);
}

int64_t FeedForward::capacity(const ForwardOptions& options, int64_t tokens) const {
  if (!options.training || !settings_.moe.capacity_factor) return -1;
  const double fair = static_cast<double>(tokens * layout_.top_k) / static_cast<double>(layout_.experts());
  const double most = *settings_.moe.capacity_factor * fair;
  return static_cast<int64_t>(std::ceil(most - 1e-9 * most));  // 1.1 * 100 is 110, not 111
}

// Where experts choose tokens, most places of a token are empty: there are as many rows as are taken.
std::vector<Variable> FeedForward::plan(autograd::Tape& tape, const ForwardOptions& options, const Variable& ids,
                                        const Variable& weights) const {
  const int64_t tokens = ids.shape()[0], experts = layout_.experts(), computing = layout_.computing();
  kernels::PlanWhole whole{experts, -1};
  int64_t rows = -1;
  if (settings_.moe.router.choice == kernels::ChoiceKind::kExpert) {
    const int64_t each = autograd::ExpertChoice::share(tokens, layout_.top_k, experts);
    whole.choices = each * experts;
    const int32_t* const begin = ids.tensor().data<int32_t>();
    rows = tape.context().exec.dry ? each * computing
                                   : std::count_if(begin, begin + ids.tensor().elements(),
                                                   [&](int32_t id) { return id >= 0 && id < computing; });
  }
  return tape.apply_all<autograd::PlanRows>({ids, weights}, computing, capacity(options, tokens),
                                            settings_.moe.drop_policy, whole, rows);
}

// What needs no exchange: shared experts, then those that compute next to nothing. May be none.
Variable FeedForward::computed_here(autograd::Tape& tape, const Variable& x, const Variable& ids,
                                    const Variable& weights, const LayerControls& controls) const {
  Variable sum;
  for (const ExpertGroup& set : shared_) {
    Variable y = set.forward(tape, settings_.recompute, all_rows(x));
    sum = sum ? tape.apply<autograd::Add>({std::move(sum), std::move(y)}) : std::move(y);
  }
  const bool simple = std::any_of(simple_.kinds.begin(), simple_.kinds.end(),
                                  [](int32_t kind) { return kind != kernels::SimpleExperts::kZero; });
  if (!simple) return sum;
  const auto factors = [](const Tensor& all) { return all ? Variable::leaf(all) : Variable(); };
  return tape.apply<autograd::SimpleExperts>(
      {x, ids, weights, std::move(sum), constants_ == nullptr ? Variable() : Variable::of(*constants_),
       factors(controls.output_factors), factors(controls.input_factors)},
      simple_);
}

Variable FeedForward::routed(autograd::Tape& tape, const ForwardOptions& options, const Variable& x,
                             const Tensor& replay, const LayerControls& controls,
                             std::vector<RoutingResult>& routing) const {
  auto [ids, weights, result] = router_->forward(tape, options, x, replay, controls);
  const std::vector<Variable> planned = plan(tape, options, ids, weights);
  const Variable &offsets = planned[0], &row_of_slot = planned[1], &slot_of_row = planned[2];
  result.offsets = offsets.tensor();
  Variable rows = tape.apply<autograd::GatherRows>({x, slot_of_row, row_of_slot, offsets});
  const bool guarded = static_cast<bool>(controls.input_factors);
  const auto of_computing = [&](const Tensor& all) {
    return Variable::leaf(all.flat_slice(0, Shape{layout_.computing()}));
  };
  if (guarded) {
    result.gradient_faults = std::make_shared<autograd::RowFaults>(static_cast<size_t>(layout_.experts()), 0);
    rows = tape.apply<autograd::GuardInputs>(
        {std::move(rows), offsets, of_computing(controls.input_factors), of_computing(controls.guarded)},
        result.gradient_faults);
    weights = tape.apply<autograd::GuardGates>(
        {std::move(weights), ids, Variable::leaf(controls.gate_factors), Variable::leaf(controls.guarded)},
        result.gradient_faults);
  }
  const auto experts = [this](autograd::Tape& on, parallel::ExpertRows local) {
    return experts_->forward(on, settings_.recompute, std::move(local));
  };
  Variable base;
  const auto meanwhile = [&] { base = computed_here(tape, x, ids, weights, controls); };
  Variable y = dispatcher_->run(tape, std::move(rows), offsets, static_cast<int>(layer_), experts, meanwhile);
  if (guarded) {
    auto out = tape.apply_all<autograd::GuardOutputs>(
        {std::move(y), offsets, of_computing(controls.output_factors), of_computing(controls.guarded)});
    y = out[autograd::GuardOutputs::kRows];
    result.output_faults = out[autograd::GuardOutputs::kCounts].tensor();
  }
  routing.push_back(std::move(result));
  return tape.apply<autograd::CombineRows>({std::move(y), row_of_slot, std::move(weights), std::move(base)});
}

}  // namespace cadre::model
