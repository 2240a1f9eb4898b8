#pragma once
// Observers hold policy and output; the trainer holds none. Every rank has the same observers; most act on rank 0 only.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "optim/expert_isolation.h"

namespace cadre::launch {

// What is known before the first step.
struct RunInfo {
  std::string directory;
  int rank = 0;
  int ranks = 1;
  int64_t first_step = 1;
  int64_t total_steps = 0;
  int64_t parameters = 0;
  int64_t active_parameters = 0;
  double flops_per_token = 0;
  double peak_flops = 0;  // of all ranks, FP32 FLOP/s; 0 when unknown
  int64_t num_experts = 0;
};

// Expert load of one MoE layer in one step, over all ranks.
struct LayerLoad {
  int64_t layer = 0;
  std::vector<int64_t> tokens;  // choices of each expert, drops included
  int64_t dropped = 0;
  // Ids, where experts are isolated: whose gradient of the step was thrown away, and who is in quarantine in it.
  struct Isolation {
    std::vector<int64_t> skipped, quarantined;
  };
  std::optional<Isolation> isolation{};
};

// The loss on held-out tokens after a step.
struct Validation {
  int64_t tokens = 0;  // 0: the step had no validation
  double loss = 0;     // nats per token
  double perplexity = 0;
  double bits_per_byte = 0;  // 0: unknown
  double seconds = 0;        // that it took, on top of the step's
};

// One finished step; the same on every rank but for memory.
struct StepMetrics {
  int64_t step = 0;                     // from 1
  double loss = 0;                      // nats per target token, auxiliary losses excluded
  double balance_loss = 0, z_loss = 0;  // coefficient included
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  double clip_factor = 1;
  int64_t tokens = 0;  // target tokens of the step
  double seconds = 0;
  double data_wait_seconds = 0;
  double exposed_communication_seconds = 0;
  uint64_t memory_in_use = 0, memory_peak = 0;  // bytes, this rank
  std::vector<LayerLoad> experts;
  std::vector<optim::ExpertEvent> events;  // of isolated experts
  double rank_imbalance = 1;               // rows of the fullest expert rank over the mean, of the worst layer
  Validation validation;

  double tokens_per_second() const { return static_cast<double>(tokens) / seconds; }
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_start(const RunInfo&) {}
  virtual void on_step(const StepMetrics&) {}
  virtual void on_checkpoint(int64_t /*step*/, const std::string& /*directory*/, double /*seconds*/) {}
  virtual void on_finish() {}
};

}  // namespace cadre::launch
