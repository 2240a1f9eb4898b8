#include "launch/verify/verify_case.h"

#include <algorithm>

#include "core/rng.h"

namespace cadre::launch {
namespace {

constexpr int64_t kVocabulary = 256;
constexpr int64_t kExpertFfn = 8;  // of a shrunk model

// Groups of different widths stay different.
void shrink_groups(std::vector<model::ExpertGroupSettings>& groups) {
  int64_t width = kExpertFfn;
  for (model::ExpertGroupSettings& group : groups) {
    if (group.ffn_hidden_size.is_auto()) continue;
    width += 2;
    group.ffn_hidden_size = config::Expression(static_cast<double>(width));
  }
}

void shrink_network(model::NetworkSettings& network, int64_t stages) {
  model::ModelSettings& model = network.model;
  constexpr int64_t kHeadSize = 6, kFfn = 12, kSmallVocabulary = 61;
  const int64_t group = std::max<int64_t>(1, model.num_heads / model.kv_heads());
  model.num_heads = 2 * group;
  model.num_kv_heads = 2;
  model.head_dim = kHeadSize;
  model.hidden_size = 24;
  model.ffn_hidden_size = kFfn;
  model.vocab_size = kSmallVocabulary;
  const int64_t enough = network.moe.dense_layers + (network.moe.layers.empty() ? 2 : 4);
  model.num_layers = std::max(stages, std::min(model.num_layers, enough));
  model.init_std = 0.2;  // far enough from uniform that routing and gradients differ between tokens
  network.moe.ffn_hidden_size = kExpertFfn;
  shrink_groups(network.moe.groups);
  for (model::ExpertLayerSettings& pattern : network.moe.layers) {
    if (pattern.groups) shrink_groups(*pattern.groups);
  }
}

}  // namespace

VerifyCase make_verify_case(const Settings& settings, int64_t micro_batches, bool shrink, int64_t stages) {
  VerifyCase result;
  result.network = settings.network();
  if (result.network.model.vocab_size.is_auto()) result.network.model.vocab_size = kVocabulary;
  result.seq_length = settings.data.seq_length;
  result.micro_batch_size = settings.batch.micro_batch_size.value_or(1);
  result.micro_batches = micro_batches;
  result.reset_at_documents = settings.data.reset_at_documents;
  result.dispatch = settings.parallel.dispatch();
  result.reproducible = settings.parallel.reproducible;
  result.zero = static_cast<int>(settings.parallel.zero);
  result.seed = settings.run.seed;
  if (shrink) {
    shrink_network(result.network, stages);
    result.seq_length = std::min<int64_t>(result.seq_length, 12);
    result.micro_batch_size = std::min<int64_t>(result.micro_batch_size, 2);
  }
  return result;
}

data::Batch verify_batch(const VerifyCase& verify_case, int64_t index) {
  constexpr uint64_t kDocumentLength = 7;
  Rng rng(verify_case.seed, RngPurpose::kTest, static_cast<uint64_t>(index));
  const auto vocabulary = static_cast<uint64_t>(*verify_case.network.model.vocab_size.value);
  data::Batch batch;
  batch.samples = static_cast<int>(verify_case.micro_batch_size);
  batch.seq_length = static_cast<int>(verify_case.seq_length);
  for (int64_t sample = 0; sample < verify_case.micro_batch_size; ++sample) {
    int32_t start = 0;
    for (int64_t position = 0; position < verify_case.seq_length; ++position) {
      if (position > 0 && rng.below(kDocumentLength) == 0) start = static_cast<int32_t>(position);
      batch.segment_start.push_back(start);
      batch.tokens.push_back(static_cast<int32_t>(rng.below(vocabulary)));
      batch.targets.push_back(static_cast<int32_t>(rng.below(vocabulary)));
    }
  }
  batch.target_tokens = static_cast<int64_t>(batch.targets.size());
  return batch;
}

}  // namespace cadre::launch
