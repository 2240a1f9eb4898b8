#include "tests/launch/verify/random_case.h"

#include <algorithm>
#include <cstdlib>

#include "model/expert_layout.h"

namespace cadre::launch::testing {
namespace {

template <class T>
T pick(Rng& rng, std::initializer_list<T> values) {
  return values.begin()[rng.below(values.size())];
}

}  // namespace

int draws(int otherwise) {
  const char* wanted = std::getenv("CADRE_TEST_DRAWS");
  return wanted != nullptr ? std::atoi(wanted) : otherwise;
}

Settings small_settings() {
  Settings s;
  s.run.seed = 5;
  s.data.seq_length = 9;
  s.data.reset_at_documents = true;
  s.batch = {4, 2};
  s.model.hidden_size = 16;
  s.model.num_layers = 2;
  s.model.num_heads = 2;
  s.model.ffn_hidden_size = 12;
  s.model.vocab_size = 31;
  s.model.qk_norm = true;
  s.model.init_std = 0.25;
  s.moe.num_experts = 5;
  s.moe.top_k = 2;
  s.moe.ffn_hidden_size = 8;
  s.moe.shared_experts = 1;
  return s;
}

// Behind those that compute.
void add_simple_groups(Rng& rng, model::MoeSettings& moe) {
  using enum model::ExpertComputation;
  for (const char* name : {"one", "two"}) {
    model::ExpertGroupSettings group;
    group.name = name;
    group.count = static_cast<double>(rng.below(3));
    group.computation = pick(rng, {kZero, kCopy, kConstant, kConstant});
    moe.groups.push_back(group);
  }
}

// Instead of experts that are alike: kinds of different sizes, their number differing by layer.
void random_groups(Rng& rng, model::MoeSettings& moe) {
  model::ExpertGroupSettings some, others, shared;
  some.name = "some";
  some.count = "2 + layer % 3";
  others.name = "others";
  others.when = pick(rng, {"layer != 1", "layer // 2 == 0", "true"});
  others.count = static_cast<double>(1 + rng.below(3));
  others.ffn_hidden_size = config::Expression(static_cast<double>(1 + rng.below(14)));
  others.activation = pick(rng, {kernels::Activation::kSwiGlu, kernels::Activation::kGelu});
  others.init_std = config::Expression(0.1);
  shared.name = "shared";
  shared.shared = true;
  shared.count = static_cast<double>(rng.below(3));
  moe.groups = {some, others, shared};
  if (rng.below(2) == 0) std::swap(moe.groups[0], moe.groups[1]);
  if (rng.below(2) == 0) add_simple_groups(rng, moe);
  model::ExpertLayerSettings third;
  third.when = "layer == 2";
  third.top_k = config::Expression(1.0);
  third.dense = rng.below(2) == 0;
  moe.layers = {third};
  moe.num_experts = moe.shared_experts = 0;
  moe.top_k = std::min<int64_t>(moe.top_k, 2);
}

void random_router(Rng& rng, model::MoeSettings& moe) {
  model::RouterSettings& router = moe.router;
  router.renormalise = pick(rng, {true, false});
  router.score = pick(rng, {autograd::ScoreKind::kSoftmax, autograd::ScoreKind::kSigmoid});
  using enum kernels::ChoiceKind;
  router.choice = pick(rng, {kTopK, kTopK, kTopP, kRandom, kBalanced, kExpert});
  const bool experts_choose = router.allow_future_tokens = router.choice == kExpert;
  if (rng.below(2) == 0) router.bias_update_rate = 0.01;
  if (rng.below(2) == 0) router.scale = 1.5;
  const bool even = moe.groups.empty() && moe.num_experts % 2 == 0 && moe.top_k <= moe.num_experts / 2;
  if (even && !experts_choose && rng.below(2) == 0) router.groups = 2;
  router.hierarchical = router.score == autograd::ScoreKind::kSoftmax && rng.below(3) == 0;
  if (rng.below(3) == 0) router.key_size = static_cast<int64_t>(2 + rng.below(8));
  if (rng.below(3) == 0) router.jitter = 0.1;
  router.noise = rng.below(3) == 0;
  if (router.noise && !experts_choose) moe.balance.load_coef = 0.1;
  if (rng.below(2) == 0) moe.balance.importance_coef = 0.1;
  if (rng.below(2) == 0) moe.balance.hinge_coef = 0.1;
  if (rng.below(2) == 0) moe.balance.entropy_coef = -0.05;
  if (rng.below(3) == 0) {
    moe.isolation.emplace();
    if (rng.below(2) == 0) moe.isolation->loss_scale.emplace();
  }
  if (rng.below(2) == 0) return;
  model::ExpertRuleSettings rule;
  rule.experts = pick(rng, {"layers.*.experts.0", "layers.*.experts.*"});
  if (rng.below(2) == 0) rule.detached_input = config::Expression(1.0);
  if (rng.below(2) == 0) rule.detached_router = config::Expression(1.0);
  if (rng.below(2) == 0) rule.dropout = config::Expression(0.5);
  if (rng.below(2) == 0) rule.loss_scale = config::Expression(1024.0);
  if (rng.below(2) == 0) rule.optimizer = pick(rng, {kernels::OptimizerKind::kAdamW, kernels::OptimizerKind::kSgd});
  moe.rules = {rule};
}

Settings random_settings(Rng& rng) {
  Settings s = small_settings();
  s.run.seed = rng.bits();
  s.data.seq_length = static_cast<int>(1 + rng.below(11));
  s.data.reset_at_documents = pick(rng, {true, false});
  s.batch.micro_batch_size = static_cast<int64_t>(1 + rng.below(3));
  s.model.num_layers = static_cast<int64_t>(1 + rng.below(5));
  s.model.num_heads = pick<int64_t>(rng, {2, 4});
  s.model.num_kv_heads = pick<int64_t>(rng, {1, 2});
  s.model.qk_norm = pick(rng, {true, false});
  s.model.tie_embeddings = pick(rng, {true, false});
  s.model.activation = pick(rng, {kernels::Activation::kSwiGlu, kernels::Activation::kGelu});
  s.moe.num_experts = static_cast<int64_t>(2 + rng.below(6));
  s.moe.top_k = static_cast<int64_t>(1 + rng.below(std::min<uint64_t>(3, static_cast<uint64_t>(s.moe.num_experts))));
  s.moe.shared_experts = static_cast<int64_t>(rng.below(3));
  if (rng.below(2) == 0) random_groups(rng, s.moe);
  s.moe.dense_layers = static_cast<int64_t>(rng.below(static_cast<uint64_t>(s.model.num_layers)));
  random_router(rng, s.moe);
  if (rng.below(3) == 0) s.moe.capacity_factor = 0.5 + rng.uniform();
  if (s.moe.router.choice == kernels::ChoiceKind::kExpert) s.moe.capacity_factor.reset();
  s.moe.drop_policy = pick(rng, {kernels::DropPolicy::kByScore, kernels::DropPolicy::kByPosition});
  s.moe.balance.scope =
      pick(rng, {model::BalanceScope::kSequence, model::BalanceScope::kMicroBatch, model::BalanceScope::kGlobalBatch});
  if (model::ExpertLayout(s.network()).moe_layers().empty()) {
    s.moe.rules.clear();
    s.moe.isolation.reset();
  }
  s.parallel.dispatcher = pick(rng, {parallel::DispatcherKind::kAllToAll, parallel::DispatcherKind::kAllGather});
  s.parallel.overlap_chunks = static_cast<int64_t>(1 + rng.below(4));
  if (rng.below(3) == 0) s.parallel.max_dispatch_tokens = static_cast<int64_t>(1 + rng.below(20));
  s.parallel.zero = static_cast<int64_t>(rng.below(3));
  s.recompute.mode =
      pick(rng, {model::RecomputeMode::kNone, model::RecomputeMode::kSelective, model::RecomputeMode::kFull});
  return s;
}

Variant random_variant(Rng& rng, const Settings& settings) {
  const int ranks = static_cast<int>(1 + rng.below(8));
  const auto variants = all_variants(ranks, ranks, model::ExpertLayout(settings.network()).fewest_computing(),
                                     settings.model.num_layers, true);
  return variants[rng.below(variants.size())];
}

}  // namespace cadre::launch::testing
