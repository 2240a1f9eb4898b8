#include "launch/plan/search.h"

#include <fmt/core.h>

#include <algorithm>
#include <tuple>

#include "core/error.h"

namespace cadre::launch {
namespace {

constexpr double kGib = 1024.0 * 1024 * 1024;

template <class T>
bool allowed(const std::optional<T>& given, T value) {
  return !given || *given == value;
}

class Search {
 public:
  Search(Estimator& estimator, const SearchSpace& space) : estimator_(estimator), space_(space) {}

  Ranking run() {
    for (const parallel::Layout& layout : parallel::all_layouts(space_.ranks)) {
      const bool wanted = allowed(space_.layout.data, layout.data) && allowed(space_.layout.expert, layout.expert) &&
                          allowed(space_.layout.pipeline, layout.pipeline);
      if (!wanted) continue;
      const std::string reason = impossibility(layout);
      if (!reason.empty()) {
        ++ranking_.impossible[reason];
        continue;
      }
      for (const int64_t micro_batch : micro_batches(layout)) add(layout, micro_batch);
    }
    const auto faster = [](const Estimate& a, const Estimate& b) {
      return std::tuple(a.time.step, a.peak_bytes()) < std::tuple(b.time.step, b.peak_bytes());
    };
    std::stable_sort(ranking_.fitting.begin(), ranking_.fitting.end(), faster);
    std::stable_sort(ranking_.too_large.begin(), ranking_.too_large.end(),
                     [](const Estimate& a, const Estimate& b) { return a.peak_bytes() < b.peak_bytes(); });
    return std::move(ranking_);
  }

 private:
  std::string impossibility(const parallel::Layout& layout) const {
    const Settings& settings = estimator_.settings();
    const int64_t batch = settings.batch.global_batch_size;
    const int64_t experts = estimator_.experts().most_computing();
    const int64_t chunks = layout.pipeline > 1 ? settings.parallel.stages_per_rank : 1;
    if (layout.pipeline * chunks > settings.model.num_layers) {
      return fmt::format("more stages than the {} layers", settings.model.num_layers);
    }
    if (layout.expert > std::max<int64_t>(1, experts)) {
      return experts == 0 ? "expert ranks without experts"
                          : fmt::format("more expert ranks than the {} experts", experts);
    }
    if (micro_batches(layout).empty()) {
      return fmt::format("data ranks{} that do not divide the global batch of {}",
                         space_.micro_batch_size ? fmt::format(" x micro-batches of {}", *space_.micro_batch_size) : "",
                         batch);
    }
    return "";
  }

  // Those that divide a rank's share of the global batch.
  std::vector<int64_t> micro_batches(const parallel::Layout& layout) const {
    const int64_t batch = estimator_.settings().batch.global_batch_size;
    std::vector<int64_t> sizes;
    const int64_t share = batch % layout.data == 0 ? batch / layout.data : 0;
    for (int64_t size = 1; size <= share; ++size) {
      if (share % size == 0 && allowed(space_.micro_batch_size, size)) sizes.push_back(size);
    }
    return sizes;
  }

  void add(const parallel::Layout& layout, int64_t micro_batch) {
    const Candidate candidate{layout, micro_batch};
    if (const std::string reason = estimator_.impossibility(candidate); !reason.empty()) {
      ++ranking_.impossible[reason];
      return;
    }
    Estimate estimate = estimator_.estimate(candidate);
    const bool fits = estimate.peak_bytes() <= estimator_.device().memory_bytes;
    (fits ? ranking_.fitting : ranking_.too_large).push_back(std::move(estimate));
  }

  Estimator& estimator_;
  const SearchSpace& space_;
  Ranking ranking_;
};

}  // namespace

std::string in_gib(double bytes) { return fmt::format("{:.{}f} GiB", bytes / kGib, bytes < 9.995 * kGib ? 2 : 1); }

std::string why_too_large(const Estimate& estimate, double memory_bytes) {
  const MemoryEstimate& memory = estimate.memory[estimate.fullest()];
  const std::pair<double, const char*> parts[] = {{memory.weights, "weights"},
                                                  {memory.gradients, "gradients"},
                                                  {memory.moments, "moments"},
                                                  {memory.packed, "packed weights"},
                                                  {memory.activations, "activations"},
                                                  {memory.communication, "communication"},
                                                  {memory.other, "other"}};
  const auto most = std::max_element(std::begin(parts), std::end(parts));
  return fmt::format("needs {} of {}, {} of them {}", in_gib(memory.total()), in_gib(memory_bytes), in_gib(most->first),
                     most->second);
}

Ranking rank_layouts(Estimator& estimator, const SearchSpace& space) {
  Ranking ranking = Search(estimator, space).run();
  if (!ranking.fitting.empty() || !ranking.too_large.empty()) return ranking;
  std::string reasons;
  for (const auto& [reason, count] : ranking.impossible) reasons += fmt::format("; {}: {}", reason, count);
  throw ConfigError(fmt::format("no layout of {} ranks is possible{}", space.ranks,
                                reasons.empty() ? "; none has the given sizes" : reasons));
}

void decide_layout(Settings& settings, int ranks, double memory_bytes, const kernels::Exec& exec) {
  ParallelSettings& parallel = settings.parallel;
  BatchSettings& batch = settings.batch;
  if (!parallel.expert_parallel.is_auto() && !parallel.pipeline_parallel.is_auto() && !batch.micro_batch_size.is_auto())
    return;
  const auto given = [](const config::Auto<int64_t>& value) -> std::optional<int> {
    return value.is_auto() ? std::nullopt : std::optional<int>(static_cast<int>(*value.value));
  };
  SearchSpace space;
  space.ranks = ranks;
  space.layout = {given(parallel.data_parallel), given(parallel.expert_parallel), given(parallel.pipeline_parallel)};
  space.micro_batch_size = batch.micro_batch_size.value;
  const double memory = settings.device.memory_gib.is_auto() ? memory_bytes : *settings.device.memory_gib.value * kGib;
  const Device device = nominal_cpu(1, ranks, memory);
  Estimator estimator(settings, device, exec);
  const Ranking ranking = rank_layouts(estimator, space);
  if (ranking.fitting.empty()) {
    const Estimate& smallest = ranking.too_large.front();
    throw ConfigError(
        fmt::format("device.memory_gib: no layout of {} ranks fits; {} with micro_batch_size {} {}; wanted more "
                    "memory, more ranks, or "
                    "recompute",
                    ranks, smallest.candidate.layout.to_string(), smallest.candidate.micro_batch_size,
                    why_too_large(smallest, memory)));
  }
  const Estimate& best = ranking.fitting.front();
  parallel.data_parallel = best.candidate.layout.data;
  parallel.expert_parallel = best.candidate.layout.expert;
  parallel.pipeline_parallel = best.candidate.layout.pipeline;
  batch.micro_batch_size = best.candidate.micro_batch_size;
}

}  // namespace cadre::launch
