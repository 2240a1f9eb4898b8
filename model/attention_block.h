#pragma once
// Grouped-query attention with rotary embeddings and optional QK-norm.

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "model/settings.h"

namespace cadre::model {

// Keys and values of the positions seen so far, one layer.
struct KvCache {
  Tensor keys, values;  // [batch * capacity, kv_heads * head_dim]
};

// Where the micro-batch's tokens stand.
struct SequenceLayout {
  int64_t batch = 1;
  int64_t length = 0;                // tokens per sequence
  int64_t past = 0;                  // positions already in the caches
  int64_t capacity = 0;              // rows per sequence of the caches
  autograd::Variable positions;      // i32 [batch * length]
  autograd::Variable segment_start;  // i32 [batch * length], or empty
  autograd::Variable rotary_table;   // [positions, head_dim]
};

class AttentionBlock {
 public:
  AttentionBlock(autograd::ParameterStore& store, const NetworkSettings& settings, int64_t layer);
  // x [batch * length, hidden] -> branch of the same shape. With a cache (inference), the new keys and values are
  // appended.
  autograd::Variable forward(autograd::Tape& tape, const SequenceLayout& layout, autograd::Variable x,
                             KvCache* cache) const;

 private:
  autograd::Variable cached(autograd::Tape& tape, const SequenceLayout& layout, const autograd::Variable& rotated,
                            KvCache& cache) const;

  const NetworkSettings& settings_;
  autograd::Parameter* qkv_;
  autograd::Parameter* output_;
  autograd::Parameter* q_norm_ = nullptr;
  autograd::Parameter* k_norm_ = nullptr;
};

}  // namespace cadre::model
