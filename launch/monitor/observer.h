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

// Experts of one MoE layer in one step, over all ranks; what is of each expert stands in the order of their places.
struct LayerLoad {
  int64_t layer = 0;
  std::vector<int64_t> tokens;  // choices of each expert, drops included
  int64_t dropped = 0;
  // Ids, where experts are isolated: whose gradient of the step was thrown away, and who is in quarantine in it.
  struct Isolation {
    std::vector<int64_t> skipped, quarantined;
  };
  std::optional<Isolation> isolation{};
  std::vector<int64_t> ids{};         // of the experts; empty: 0, 1, ...
  std::vector<int64_t> drops{};       // choices that were not computed
  std::vector<int64_t> idle_steps{};  // since a token was last computed by the expert, this step included
  double balance_loss = 0, z_loss = 0;
  // What only some steps measure (monitor.experts_every).
  struct Detail {
    std::vector<double> mass;           // the expert's share of the scores of all tokens, each token's scaled to 1
    std::vector<double> gradient_norm;  // over all weights of the expert, before clipping; empty with a bad step
    std::vector<double> update_norm;    // of what the step added to its weights
    double entropy = 0;                 // mean over tokens, of their scores; nats
  };
  std::optional<Detail> detail{};

  int64_t id(size_t place) const { return ids.empty() ? static_cast<int64_t>(place) : ids[place]; }
};

// Bytes that data ranks send to the ranks of their expert group, over all stages: rows in the forward, gradients of
// their results in the backward; as much comes back. [data rank * expert + rank of the group]. A rank's own rows do not
// travel, but count.
struct DispatchTraffic {
  int64_t data = 1, expert = 1;
  std::vector<double> bytes;
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
  double joules = 0;  // of all hosts, since the step before; 0: unknown
  double data_wait_seconds = 0;
  double exposed_communication_seconds = 0;
  uint64_t memory_in_use = 0, memory_peak = 0;  // bytes, this rank
  std::vector<LayerLoad> experts;
  std::optional<DispatchTraffic> dispatch;  // in steps that measure experts, where there are expert ranks
  std::vector<optim::ExpertEvent> events;   // of isolated experts
  double rank_imbalance = 1;                // rows of the fullest expert rank over the mean, of the worst layer
  Validation validation;

  double tokens_per_second() const { return static_cast<double>(tokens) / seconds; }
  double joules_per_token() const { return joules / static_cast<double>(tokens); }
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
