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

// What is asked of one expert in this step.
struct Steered {
  ExpertRule rule{};
  bool isolated = false;
  bool quarantined = false;
  double loss_scale = 1;
};

// The experts of a layer that are not there: those in quarantine, and those that draws of their own let sit this step
// out; of the latter so many stay, those of the highest draws, that a token finds as many as it wants.
std::vector<int64_t> absent_ones(const std::vector<Steered>& experts, uint64_t seed, uint64_t stream, int64_t wanted) {
  std::vector<int64_t> absent;
  std::vector<std::pair<double, int64_t>> drawn;
  for (size_t expert = 0; expert < experts.size(); ++expert) {
    if (experts[expert].quarantined) {
      absent.push_back(static_cast<int64_t>(expert));
    } else if (experts[expert].rule.dropout > 0) {
      Rng rng(seed, RngPurpose::kDropout, stream);
      rng.seek(expert);
      const double draw = rng.uniform();
      if (draw < experts[expert].rule.dropout) drawn.emplace_back(draw, static_cast<int64_t>(expert));
    }
  }
  std::sort(drawn.begin(), drawn.end());
  const auto most = static_cast<int64_t>(experts.size() - absent.size()) - wanted;
  if (static_cast<int64_t>(drawn.size()) > most) drawn.resize(static_cast<size_t>(std::max<int64_t>(0, most)));
  for (const auto& [draw, expert] : drawn) absent.push_back(expert);
  if (absent.size() == experts.size()) absent.clear();  // scores need somebody; guards zero what is not finite
  return absent;
}

void add_guards(Allocator& allocator, const std::vector<Steered>& steered, LayerControls& controls) {
  const bool guards = std::any_of(steered.begin(), steered.end(), [](const Steered& s) {
    return s.rule.detached_input || s.rule.detached_router || s.isolated || s.loss_scale != 1;
  });
  if (!guards) return;
  const auto experts = static_cast<int64_t>(steered.size());
  controls.input_factors = filled(allocator, experts, 1);
  controls.output_factors = filled(allocator, experts, 1);
  controls.gate_factors = filled(allocator, experts, 1);
  controls.guarded = Tensor::zeros(allocator, Dtype::kI32, Shape{experts});
  for (size_t e = 0; e < steered.size(); ++e) {
    const Steered& expert = steered[e];
    controls.output_factors.data<double>()[e] = expert.loss_scale;
    controls.input_factors.data<double>()[e] = expert.rule.detached_input ? 0 : 1 / expert.loss_scale;
    if (expert.rule.detached_router) controls.gate_factors.data<double>()[e] = 0;
    controls.guarded.data<int32_t>()[e] = expert.isolated ? 1 : 0;
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
                                            const optim::ExpertIsolation* isolation, std::vector<LayerControls> state) {
  if (rules.empty() && isolation == nullptr) return state;
  const optim::ExpertRules::ByExpert by_expert = rules.at(step.step, step.total_steps);
  for (size_t i = 0; i < state.size(); ++i) {
    const int64_t layer = layout.moe_layers()[i], experts = layout.layer(layer).experts();
    std::vector<Steered> steered(static_cast<size_t>(experts));
    for (int64_t expert = 0; expert < experts; ++expert) {
      Steered& of = steered[static_cast<size_t>(expert)];
      const auto found = by_expert.find({static_cast<int>(layer), static_cast<int>(expert)});
      if (found != by_expert.end()) of.rule = found->second;
      of.loss_scale = of.rule.loss_scale;
      of.isolated = isolation != nullptr && isolation->index_of(layer, expert) >= 0;
      if (!of.isolated) continue;
      of.quarantined = isolation->quarantined(layer, expert, step.step);
      of.loss_scale *= isolation->loss_scale(layer, expert);
    }
    const uint64_t stream = static_cast<uint64_t>(step.step) << 16 | static_cast<uint64_t>(layer);
    const std::vector<int64_t> absent = absent_ones(steered, step.seed, stream, layout.layer(layer).top_k);
    state[i].bias = bias_without(allocator, state[i].bias, experts, absent);
    add_guards(allocator, steered, state[i]);
  }
  return state;
}

}  // namespace cadre::launch
