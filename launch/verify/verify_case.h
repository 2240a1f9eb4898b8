#pragma once
// What `cadre verify` computes everywhere: one step of a model on random tokens.

#include <cstdint>

#include "data/batch.h"
#include "launch/settings.h"

namespace cadre::launch {

struct VerifyCase {
  model::NetworkSettings network;  // vocabulary resolved
  int64_t seq_length = 16;
  int64_t micro_batch_size = 2;
  int64_t micro_batches = 1;  // of the global batch
  bool reset_at_documents = false;
  parallel::DispatchOptions dispatch;       // but for `reproducible`
  config::Auto<bool> reproducible = false;  // as in training
  int zero = 0;                             // ZeRO stage of the layouts; the reference has none
  uint64_t seed = 1;

  int64_t global_tokens() const { return micro_batches * micro_batch_size * seq_length; }
};

// The config's model, on `micro_batches` micro-batches. `shrink`: the same structure (layers that differ, heads,
// experts, router, losses, recompute), with small sizes, so that many layouts take seconds, but as many layers as there
// are stages. A vocabulary that the
// tokenizer would decide is 256.
VerifyCase make_verify_case(const Settings& settings, int64_t micro_batches, bool shrink, int64_t stages = 1);

// Micro-batch `index` of the global batch; a pure function of seed and index. Documents end now and then.
data::Batch verify_batch(const VerifyCase& verify_case, int64_t index);

}  // namespace cadre::launch
