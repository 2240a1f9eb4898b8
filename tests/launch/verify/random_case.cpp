#include "tests/launch/verify/random_case.h"

#include <algorithm>
#include <cstdlib>

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
  s.moe.dense_layers = static_cast<int64_t>(rng.below(static_cast<uint64_t>(s.model.num_layers)));
  s.moe.router.renormalise = pick(rng, {true, false});
  if (rng.below(3) == 0) s.moe.capacity_factor = 0.5 + rng.uniform();
  s.moe.drop_policy = pick(rng, {kernels::DropPolicy::kByScore, kernels::DropPolicy::kByPosition});
  s.moe.balance.scope =
      pick(rng, {model::BalanceScope::kSequence, model::BalanceScope::kMicroBatch, model::BalanceScope::kGlobalBatch});
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
  const auto variants = all_variants(ranks, ranks, settings.moe.num_experts, settings.model.num_layers, true);
  return variants[rng.below(variants.size())];
}

}  // namespace cadre::launch::testing
