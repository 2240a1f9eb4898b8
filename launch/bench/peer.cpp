#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "autograd/profiler.h"
#include "core/rng.h"
#include "launch/bench/bench.h"
#include "launch/monitor/monitor.h"
#include "launch/trainer/trainer.h"
#include "parallel/comm/self.h"

namespace cadre::launch {
namespace {

Settings peer_settings() {
  Settings s;
  s.model.hidden_size = 256;
  s.model.num_layers = 4;
  s.model.num_heads = 4;
  s.model.vocab_size = 256;
  s.model.tie_embeddings = false;
  s.moe.num_experts = 8;
  s.moe.top_k = 2;
  s.moe.ffn_hidden_size = 512;
  s.data.seq_length = 256;
  s.batch = {8, 8};
  return s;
}

data::Batch random_batch(const Settings& s, Rng& rng) {
  data::Batch batch;
  batch.samples = s.batch.micro_batch_size;
  batch.seq_length = s.data.seq_length;
  const size_t count = static_cast<size_t>(batch.samples * batch.seq_length);
  const uint64_t vocabulary = static_cast<uint64_t>(*s.model.vocab_size.value);
  for (size_t i = 0; i < count; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(rng.below(vocabulary)));
    batch.targets.push_back(static_cast<int32_t>(rng.below(vocabulary)));
  }
  batch.segment_start.assign(count, 0);
  batch.target_tokens = static_cast<int64_t>(count);
  return batch;
}

}  // namespace

nlohmann::json bench_peer(Session& session, const BenchOptions& options) {
  using Clock = std::chrono::steady_clock;
  const Settings settings = peer_settings();
  autograd::Context& context = session.context();
  TrainState state(context, settings.network(), settings.optimizer, settings.run.seed);
  const auto self = parallel::make_self_communicator();
  TrainerOptions trainer_options;
  trainer_options.total_steps = 1000;
  trainer_options.global_target_tokens =
      static_cast<double>(settings.batch.global_batch_size) * settings.data.seq_length;
  Trainer trainer(context, state, *self, trainer_options);
  Rng rng(1, RngPurpose::kTest);
  const auto step = [&] { return trainer.step([&] { return random_batch(settings, rng); }, {}).metrics; };
  for (int i = 0; i < 3; ++i) step();
  std::vector<double> seconds;
  const Clock::time_point start = Clock::now();
  while (std::chrono::duration<double>(Clock::now() - start).count() < options.seconds || seconds.size() < 5) {
    seconds.push_back(step().seconds);
  }
  std::sort(seconds.begin(), seconds.end());
  autograd::Profiler profiler;
  context.profiler = &profiler;
  for (int i = 0; i < 5; ++i) step();
  context.profiler = nullptr;
  const double peak = peak_flops({}, context);
  const double median = seconds[seconds.size() / 2], tokens = trainer_options.global_target_tokens;
  const double flops = state.model().training_flops_per_token(settings.data.seq_length) * tokens;
  const nlohmann::json result{{"case", "peer"},
                              {"threads", session.threads()},
                              {"steps", seconds.size()},
                              {"tokens_per_second", tokens / median},
                              {"best_tokens_per_second", tokens / seconds[0]},
                              {"gflops", 1e-9 * flops / median},
                              {"peak_gflops", 1e-9 * peak},
                              {"share_of_peak", peak > 0 ? flops / median / peak : 0},
                              {"peak_memory_bytes", session.allocator().stats().peak},
                              {"parameters", state.store().parameter_count()}};
  if (options.print) {
    fmt::print(
        "peer case: {:.0f} tokens/s (median of {} steps; best {:.0f}), {:.1f} GFLOP/s, {:.1f}% of a measured peak of "
        "{:.1f}, {:.0f} MB\n{}",
        tokens / median, seconds.size(), tokens / seconds[0], 1e-9 * flops / median,
        peak > 0 ? 100 * flops / median / peak : 0.0, 1e-9 * peak,
        1e-6 * static_cast<double>(session.allocator().stats().peak), profiler.table());
  }
  return result;
}

}  // namespace cadre::launch
