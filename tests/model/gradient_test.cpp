// Whole-model finite differences in FP64, with the routing held by replay.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/rng.h"
#include "tests/model/tiny_model.h"

namespace cadre::model {
namespace {

using testing::StepResult;
using testing::TinyModel;

struct Variant {
  const char* name;
  std::function<void(NetworkSettings&)> change;
  bool controls = false;
  bool drops = false;
  bool idle = false;  // some experts have no tokens, and no gradient
};

void all_losses(NetworkSettings& s) {
  s.moe.router.renormalise = false;  // so that the sums of gate weights differ from scope to scope
  s.moe.balance.importance_coef = 0.5;
  s.moe.balance.hinge_coef = 0.25;
  s.moe.balance.entropy_coef = -0.125;
}

// Three that compute, and one of each kind that does not.
void simple_experts(NetworkSettings& s) {
  const auto group = [](const char* name, double count, ExpertComputation computation) {
    ExpertGroupSettings settings;
    settings.name = name;
    settings.count = count;
    settings.computation = computation;
    return settings;
  };
  s.moe.num_experts = s.moe.shared_experts = 0;
  s.moe.top_k = 3;
  s.moe.groups = {group("full", 3, ExpertComputation::kFull), group("zero", 1, ExpertComputation::kZero),
                  group("constant", 2, ExpertComputation::kConstant), group("copy", 1, ExpertComputation::kCopy)};
}

void experts_choose(NetworkSettings& s) {
  s.moe.router.choice = kernels::ChoiceKind::kExpert;
  s.moe.router.allow_future_tokens = true;
}

const Variant kVariants[] = {
    {"base", [](NetworkSettings&) {}},
    {"untied", [](NetworkSettings& s) { s.model.tie_embeddings = false; }},
    {"gelu", [](NetworkSettings& s) { s.model.activation = kernels::Activation::kGelu; }},
    {"plain_heads", [](NetworkSettings& s) { s.model.qk_norm = false; }},
    {"full_heads", [](NetworkSettings& s) { s.model.num_kv_heads = 4; }},
    {"dense", [](NetworkSettings& s) { s.moe = MoeSettings{}; }},
    {"leading_dense_layer",
     [](NetworkSettings& s) {
       s.model.num_layers = 3;
       s.moe.dense_layers = 1;
     }},
    {"two_shared_experts", [](NetworkSettings& s) { s.moe.shared_experts = 2; }},
    {"no_shared_expert", [](NetworkSettings& s) { s.moe.shared_experts = 0; }},
    {"raw_probabilities", [](NetworkSettings& s) { s.moe.router.renormalise = false; }},
    {"top_one_of_three",
     [](NetworkSettings& s) {
       s.moe.num_experts = 3;
       s.moe.top_k = 1;
       s.moe.router.renormalise = false;
     }},
    {"balance_by_sequence", [](NetworkSettings& s) { s.moe.balance.scope = BalanceScope::kSequence; }},
    {"balance_by_global_batch", [](NetworkSettings& s) { s.moe.balance.scope = BalanceScope::kGlobalBatch; }, true},
    {"sigmoid_with_biases",
     [](NetworkSettings& s) {
       s.moe.router.score = autograd::ScoreKind::kSigmoid;
       s.moe.router.bias_update_rate = 0.001;
       s.moe.router.scale = 2.5;
     },
     true, false, true},
    {"groups_of_experts",
     [](NetworkSettings& s) {
       s.moe.num_experts = 6;
       s.moe.router.groups = 3;
       s.moe.router.kept_groups = 2;
     },
     false, false, true},
    {"top_p", [](NetworkSettings& s) { s.moe.router.choice = kernels::ChoiceKind::kTopP; }, false, false, true},
    {"two_levels",
     [](NetworkSettings& s) {
       s.moe.num_experts = 6;
       s.moe.router.groups = 3;
       s.moe.router.kept_groups = 2;
       s.moe.router.hierarchical = true;
     },
     false, false, true},
    {"keys",
     [](NetworkSettings& s) {
       s.moe.router.key_size = 5;
       s.moe.router.temperature = 0.5;
     }},
    {"jitter", [](NetworkSettings& s) { s.moe.router.jitter = 0.25; }},
    {"noise",
     [](NetworkSettings& s) {
       s.moe.router.noise = true;
       s.moe.balance.load_coef = 0.5;
     }},
    {"noise_by_global_batch",
     [](NetworkSettings& s) {
       s.moe.router.noise = true;
       s.moe.balance.load_coef = 0.5;
       s.moe.balance.scope = BalanceScope::kGlobalBatch;
     },
     true},
    {"random", [](NetworkSettings& s) { s.moe.router.choice = kernels::ChoiceKind::kRandom; }},
    {"balanced", [](NetworkSettings& s) { s.moe.router.choice = kernels::ChoiceKind::kBalanced; }},
    {"all_balance_losses", all_losses},
    {"all_balance_losses_of_sigmoids",
     [](NetworkSettings& s) {
       all_losses(s);
       s.moe.router.score = autograd::ScoreKind::kSigmoid;
       s.moe.balance.scope = BalanceScope::kSequence;
     }},
    {"all_balance_losses_of_the_global_batch",
     [](NetworkSettings& s) {
       all_losses(s);
       s.moe.balance.scope = BalanceScope::kGlobalBatch;
     },
     true},
    {"simple_experts", simple_experts, false, false, true},
    {"simple_experts_and_shared_ones_with_biases",
     [](NetworkSettings& s) {
       simple_experts(s);
       ExpertGroupSettings shared;
       shared.name = "shared";
       shared.shared = true;
       s.moe.groups.push_back(shared);
       s.moe.router.bias_update_rate = 0.001;
       s.moe.capacity_factor = 0.75;
     },
     true, true, true},
    {"experts_choose", experts_choose},
    {"experts_choose_by_sigmoids_with_biases",
     [](NetworkSettings& s) {
       experts_choose(s);
       s.moe.router.score = autograd::ScoreKind::kSigmoid;
       s.moe.router.renormalise = false;
       s.moe.router.bias_update_rate = 0.001;
     },
     true, false, true},
    {"simple_experts_choose_with_all_losses",
     [](NetworkSettings& s) {
       simple_experts(s);
       experts_choose(s);
       all_losses(s);
     }},
    {"drops_by_score", [](NetworkSettings& s) { s.moe.capacity_factor = 0.75; }, false, true},
    {"drops_by_position",
     [](NetworkSettings& s) {
       s.moe.capacity_factor = 0.75;
       s.moe.drop_policy = kernels::DropPolicy::kByPosition;
     },
     false, true},
};

class ModelGradients : public ::testing::TestWithParam<Variant> {
 protected:
  static NetworkSettings settings() {
    NetworkSettings settings = testing::tiny_settings();
    GetParam().change(settings);
    return settings;
  }

  std::vector<LayerControls> controls() {
    const ExpertLayout& experts = model_.transformer->experts();
    std::vector<LayerControls> all = first_controls(model_.allocator, experts, settings().moe.router);
    for (size_t layer = 0; layer < all.size(); ++layer) {
      for (int64_t e = 0; e < all[layer].fractions.elements(); ++e) {
        const double value = double((e + static_cast<int64_t>(layer)) % 4 + 1);
        all[layer].fractions.data<double>()[e] = value / 10;
        all[layer].loads.data<double>()[e] = 3 * value;
        all[layer].smooth_loads.data<double>()[e] = 5 - value;
        if (all[layer].bias) all[layer].bias.data<double>()[e] = e == 2 ? -INFINITY : value / 20;
      }
    }
    return all;
  }

  // The loss with `step` times `direction` added to the values from `offset`.
  double loss_at(int64_t offset, const std::vector<double>& direction, double step) {
    std::vector<double> before;
    for (size_t i = 0; i < direction.size(); ++i) {
      const int64_t at = offset + static_cast<int64_t>(i);
      before.push_back(model_.value(at));
      model_.set_value(at, before.back() + step * direction[i]);
    }
    const double loss = model_.step(&first_.trace, given_, false).total();
    for (size_t i = 0; i < direction.size(); ++i) model_.set_value(offset + static_cast<int64_t>(i), before[i]);
    return loss;
  }

  // A random direction that leans towards the gradient, so that its slope is not small by chance.
  static std::vector<double> direction_near(const std::vector<double>& gradient, double norm) {
    Rng rng(31, RngPurpose::kTest);
    std::vector<double> direction;
    double squares = 0;
    for (const double g : gradient) {
      direction.push_back(rng.normal() / std::sqrt(double(gradient.size())) + g / norm);
      squares += direction.back() * direction.back();
    }
    for (double& d : direction) d /= std::sqrt(squares);
    return direction;
  }

  void expect_slope(const std::string& name, int64_t offset, int64_t count) {
    const auto begin = first_.gradients.begin() + offset;
    const std::vector<double> gradient(begin, begin + count);
    double squares = 0, got = 0;
    for (const double g : gradient) squares += g * g;
    const double norm = std::sqrt(squares);
    if (norm == 0 && GetParam().idle) return;
    ASSERT_GT(norm, 1e-6) << name << " has no gradient";
    const std::vector<double> direction = direction_near(gradient, norm);
    for (size_t i = 0; i < gradient.size(); ++i) got += gradient[i] * direction[i];
    constexpr double kStep = 1e-5;
    const double wanted = (loss_at(offset, direction, kStep) - loss_at(offset, direction, -kStep)) / (2 * kStep);
    EXPECT_NEAR(got, wanted, 1e-6 * norm + 5e-9) << name;
  }

  TinyModel model_{settings()};
  std::vector<LayerControls> controls_ = GetParam().controls ? controls() : std::vector<LayerControls>{};
  const std::vector<LayerControls>* given_ = GetParam().controls ? &controls_ : nullptr;
  StepResult first_ = model_.step(nullptr, given_);
};

TEST_P(ModelGradients, MatchFiniteDifferencesOfTheTotalLoss) {
  for (const auto& parameter : model_.store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      expect_slope(segment.name, parameter->offset + segment.offset, segment.count());
    }
  }
  expect_slope("all parameters", 0, model_.store.elements());
}

TEST_P(ModelGradients, ReplayedRoutingChangesNoBit) {
  const StepResult again = model_.step(&first_.trace, given_);
  EXPECT_EQ(again.total(), first_.total());
  EXPECT_EQ(again.gradients, first_.gradients);
}

TEST_P(ModelGradients, SlotsAreDroppedOnlyUnderCapacity) {
  for (const RoutingResult& routing : first_.routing) {
    const int64_t experts = routing.offsets.elements() - 1, rows = routing.offsets.data<int64_t>()[experts];
    int64_t choices = 0;  // of experts that compute
    for (int64_t i = 0; i < routing.counts.elements(); ++i) {
      if (i % routing.counts.shape()[1] < experts) choices += routing.counts.data<int64_t>()[i];
    }
    EXPECT_EQ(rows < choices, GetParam().drops);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, ModelGradients, ::testing::ValuesIn(kVariants),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace cadre::model
