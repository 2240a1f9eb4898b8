#pragma once
// A small model for tests of plans.

#include "launch/plan/estimate.h"

namespace cadre::launch::testing {

// Large enough that rounding to size classes and small tensors do not decide.
inline Settings plan_settings() {
  Settings s;
  s.data.seq_length = 64;
  s.batch.global_batch_size = 16;
  s.batch.micro_batch_size = 2;
  s.model.hidden_size = 64;
  s.model.num_layers = 4;
  s.model.num_heads = 4;
  s.model.ffn_hidden_size = 160;
  s.model.vocab_size = 300;
  s.model.qk_norm = true;
  s.moe.num_experts = 8;
  s.moe.top_k = 2;
  s.moe.ffn_hidden_size = 96;
  s.moe.dense_layers = 1;
  s.parallel.zero = 0;
  s.parallel.reproducible = false;
  return s;
}

struct Machine {
  ThreadPool threads{1};
  kernels::Exec exec{threads, kernels::best_isa()};
  Device device = nominal_cpu(1, 8, 1e9);
};

}  // namespace cadre::launch::testing
