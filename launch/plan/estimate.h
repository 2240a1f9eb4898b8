#pragma once
// What one step of a layout needs: memory, traffic and time, from the figures of blocks (profile.h) and a device.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "launch/plan/device.h"
#include "launch/plan/profile.h"
#include "launch/settings.h"
#include "launch/trainer/stages.h"
#include "model/expert_layout.h"
#include "parallel/mesh/layout.h"
#include "parallel/pipeline/simulate.h"

namespace cadre::launch {

struct Candidate {
  parallel::Layout layout{};
  int64_t micro_batch_size = 1;
};

// Bytes on one rank, as its allocator counts them.
struct MemoryEstimate {
  double weights = 0;
  double moments = 0;        // and what isolated experts have besides
  double gradients = 0;      // with what parallel.reproducible adds
  double packed = 0;         // forms of the weights for matrix products
  double activations = 0;    // of all micro-batches in flight, and what the fullest moment needs besides
  double communication = 0;  // buffers of messages and reductions
  double other = 0;          // the rotary table, norms of pieces
  double total() const { return weights + gradients + moments + packed + activations + communication + other; }
};

struct TimeEstimate {
  double step = 0;
  double pipeline = 0;   // of it: forwards and backwards of all micro-batches, waiting included
  double packing = 0;    // within `pipeline`: of the weights, once a step
  double gradients = 0;  // reducing them, as far as nothing runs beside it
  double update = 0;
  double dispatch = 0;  // within `pipeline`: expert exchanges of the busiest rank
  double bubble = 0;    // share of `pipeline` in which the average rank waits
};

struct Estimate {
  Candidate candidate;
  int64_t micro_batches = 1;  // of a rank and step
  std::vector<int64_t> layers_per_stage;
  bool reproducible = false;
  int64_t parameters = 0;                  // of the pipeline rank that has most, padding included
  std::vector<MemoryEstimate> memory;      // by pipeline rank
  std::vector<parallel::Traffic> traffic;  // bytes that a rank sends in a step, by pipeline rank
  TimeEstimate time;
  double flops = 0;          // of the model for one rank's share of a step
  double tokens = 0;         // of a step, all ranks
  double share_of_peak = 0;  // flops per second of one rank

  size_t fullest() const;  // pipeline rank with the most memory
  double peak_bytes() const { return memory[fullest()].total(); }
};

class Estimator {
 public:
  // `settings` have their vocabulary size; their layout and micro-batch size are not looked at, but what else
  // `parallel` says is. `exec` is only passed on. Device and exec must outlive this. Experts that will be balanced are
  // taken to be so, with their replicas.
  Estimator(Settings settings, const Device& device, const kernels::Exec& exec);

  // Why a candidate cannot be with these settings; empty: it can. Its batch must divide.
  std::string impossibility(const Candidate& candidate) const;
  // Throws ConfigError for stages that cannot be.
  Estimate estimate(const Candidate& candidate);
  // The pipeline schedule of a candidate, in the times that the estimate expects.
  std::pair<parallel::Schedule, parallel::Timeline> timeline(const Estimate& estimate);

  const Settings& settings() const { return settings_; }
  const model::ExpertLayout& experts() const { return experts_; }
  const Device& device() const { return device_; }

 private:
  const ModelProfile& profile(const Candidate& candidate);

  Settings settings_;
  model::ExpertLayout experts_;  // computed once: expressions take their time
  LayerCosts counted_;           // likewise
  const Device& device_;
  const kernels::Exec& exec_;
  std::map<std::pair<int64_t, int>, ModelProfile> profiles_;  // by micro-batch size and expert ranks
};

}  // namespace cadre::launch
