#pragma once
// Which layouts there are, and which are best.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launch/plan/estimate.h"

namespace cadre::launch {

// What is given stays; the rest is searched.
struct SearchSpace {
  int ranks = 1;
  parallel::LayoutRequest layout{};
  std::optional<int64_t> micro_batch_size{};
};

struct Ranking {
  std::vector<Estimate> fitting;              // fastest first; of equally fast ones that with less memory
  std::vector<Estimate> too_large;            // for the device's memory; smallest first
  std::map<std::string, int64_t> impossible;  // layouts that cannot be, by the reason
};

// Estimates every candidate of the space. Throws ConfigError when a given value leaves none.
Ranking rank_layouts(Estimator& estimator, const SearchSpace& space);

// Why an estimate does not fit: "needs 93.1 GiB of 80.0 GiB, 61.2 of them activations".
std::string why_too_large(const Estimate& estimate, double memory_bytes);
// "93.1 GiB"
std::string in_gib(double bytes);

// Decides what is auto among parallel.data_parallel, expert_parallel, pipeline_parallel and batch.micro_batch_size: the
// fastest layout of `ranks` that fits device.memory_gib, or `memory_bytes` of a rank where that is auto. A function of
// its arguments alone, by figures of a CPU of which only the cores are known: all ranks decide alike when they pass the
// same, and so does a run that is started again. Does nothing when nothing is auto but data_parallel. The vocabulary
// size must be given. Throws ConfigError when nothing fits.
void decide_layout(Settings& settings, int ranks, double memory_bytes, const kernels::Exec& exec);

}  // namespace cadre::launch
