#include "launch/trainer/steering.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/rng.h"

namespace cadre::launch {
namespace {

using model::LayerControls;
using optim::ExpertRule;

constexpr double kAbsent = -std::numeric_limits<double>::infinity();

Tensor filled(Allocator& allocator, int64_t experts, double value) {
  Tensor tensor = Tensor::empty(allocator, Dtype::kF64, Shape{experts});
  std::fill_n(tensor.data<double>(), experts, value);
  return tensor;
}

// The experts of a layer that sit this step out, by draws of their own; of them so many stay, those of the highest
// draws, that a token finds as many as it wants.
std::vector<int64_t> dropped(const std::vector<ExpertRule>& rules, uint64_t seed, uint64_t stream, int64_t wanted) {
  std::vector<std::pair<double, int64_t>> out;
  for (size_t expert = 0; expert < rules.size(); ++expert) {
    if (rules[expert].dropout == 0) continue;
    Rng rng(seed, RngPurpose::kDropout, stream);
    rng.seek(expert);
    const double draw = rng.uniform();
    if (draw < rules[expert].dropout) out.emplace_back(draw, static_cast<int64_t>(expert));
  }
  std::sort(out.begin(), out.end());
  const int64_t most = std::max<int64_t>(0, static_cast<int64_t>(rules.size()) - wanted);
  if (static_cast<int64_t>(out.size()) > most) out.resize(static_cast<size_t>(most));
  std::vector<int64_t> experts;
  for (const auto& [draw, expert] : out) experts.push_back(expert);
  return experts;
}

void add_guards(Allocator& allocator, const std::vector<ExpertRule>& rules, LayerControls& controls) {
  const bool guards = std::any_of(rules.begin(), rules.end(),
                                  [](const ExpertRule& rule) { return rule.detached_input || rule.detached_router; });
  if (!guards) return;
  const auto experts = static_cast<int64_t>(rules.size());
  controls.input_factors = filled(allocator, experts, 1);
  controls.output_factors = filled(allocator, experts, 1);
  controls.gate_factors = filled(allocator, experts, 1);
  for (size_t expert = 0; expert < rules.size(); ++expert) {
    if (rules[expert].detached_input) controls.input_factors.data<double>()[expert] = 0;
    if (rules[expert].detached_router) controls.gate_factors.data<double>()[expert] = 0;
  }
}

// A copy of the bias, if there is one, without those experts.
Tensor bias_without(Allocator& allocator, const Tensor& bias, int64_t experts, const std::vector<int64_t>& absent) {
  if (absent.empty()) return bias;
  Tensor result = filled(allocator, experts, 0);
  if (bias) std::copy_n(bias.data<double>(), experts, result.data<double>());
  for (const int64_t expert : absent) result.data<double>()[expert] = kAbsent;
  return result;
}

}  // namespace

std::vector<LayerControls> controls_of_step(Allocator& allocator, const SteeredStep& step,
                                            const model::ExpertLayout& layout, const optim::ExpertRules& rules,
                                            std::vector<LayerControls> state) {
  if (rules.empty()) return state;
  const optim::ExpertRules::ByExpert by_expert = rules.at(step.step, step.total_steps);
  for (size_t i = 0; i < state.size(); ++i) {
    const int64_t layer = layout.moe_layers()[i], experts = layout.layer(layer).experts();
    std::vector<ExpertRule> of_layer(static_cast<size_t>(experts));
    for (int64_t expert = 0; expert < experts; ++expert) {
      const auto found = by_expert.find({static_cast<int>(layer), static_cast<int>(expert)});
      if (found != by_expert.end()) of_layer[static_cast<size_t>(expert)] = found->second;
    }
    const uint64_t stream = static_cast<uint64_t>(step.step) << 16 | static_cast<uint64_t>(layer);
    const std::vector<int64_t> absent = dropped(of_layer, step.seed, stream, layout.layer(layer).top_k);
    state[i].bias = bias_without(allocator, state[i].bias, experts, absent);
    add_guards(allocator, of_layer, state[i]);
  }
  return state;
}

}  // namespace cadre::launch
