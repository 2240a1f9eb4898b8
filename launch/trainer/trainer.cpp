#include "launch/trainer/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "launch/trainer/steering.h"

namespace cadre::launch {
namespace {

using Clock = std::chrono::steady_clock;
using parallel::Axis;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

parallel::Schedule schedule_for(const parallel::Mesh& mesh, const TrainerOptions& options) {
  parallel::ScheduleShape shape = options.schedule;
  shape.ranks = mesh.layout().pipeline;
  shape.micro_batches = static_cast<int>(options.step.micro_batches);
  return parallel::make_schedule(shape);
}

}  // namespace

Trainer::Trainer(const autograd::Context& context, TrainState& state, parallel::Mesh& mesh, TrainerOptions options)
    : context_(context),
      state_(state),
      mesh_(mesh),
      options_(std::move(options)),
      gradients_(context, state.shard(), state.store(), state.optimizer(), options_.gradients),
      interpreter_(mesh.along(Axis::kPipeline), context.allocator, schedule_for(mesh, options_)) {
  const model::BalanceSettings& balance = state.model().settings().moe.balance;
  const config::Expression none = 0.0;
  measures_loads_ = balance.scope == model::BalanceScope::kGlobalBatch &&
                    (balance.importance_coef != none || balance.hinge_coef != none || balance.load_coef != none);
}

// One all_reduce for everything small along data, in the tree that completes those of the ranks' micro-batches, and one
// along the pipeline, where each number is one stage's.
Trainer::Shared Trainer::share(const StepTotals& totals, const Votes& mine) {
  Shared shared;
  shared.counts = totals.counts;
  for (const std::vector<TreeSum>& layer : totals.loads) {
    std::vector<double>& loads = shared.loads.emplace_back();
    for (const TreeSum& load : layer) loads.push_back(load.value());
  }
  shared.loss = totals.loss.value();
  shared.tokens.global_targets = options_.step.global_target_tokens;
  shared.tokens.kept = totals.kept;
  if (state_.optimizer().isolated() != nullptr) shared.tokens.faults = totals.faults;
  std::vector<double> balance, z;
  for (const TreeSum& layer : totals.balance_loss) balance.push_back(layer.value());
  for (const TreeSum& layer : totals.z_loss) z.push_back(layer.value());
  double stop = mine.stop ? 1 : 0, unwritten = mine.checkpoint_written ? 0 : 1;
  std::vector<double*> slots{&shared.loss, &stop, &unwritten};
  const auto add = [&](std::vector<double>& values) {
    for (double& value : values) slots.push_back(&value);
  };
  add(balance);
  add(z);
  for (std::vector<double>& layer : shared.counts) add(layer);
  if (measures_loads_) {
    for (std::vector<double>& layer : shared.loads) add(layer);
  }
  for (std::vector<double>& layer : shared.tokens.kept) add(layer);
  for (std::vector<double>& layer : shared.tokens.faults) add(layer);
  Tensor packed = Tensor::empty(context_.allocator, Dtype::kF64, Shape{static_cast<int64_t>(slots.size())});
  for (size_t i = 0; i < slots.size(); ++i) packed.data<double>()[i] = *slots[i];
  for (const Axis axis : {Axis::kData, Axis::kPipeline}) {
    mesh_.along(axis).all_reduce(packed, parallel::Reduction::kSum, {"step_statistics"})->wait();
  }
  for (size_t i = 0; i < slots.size(); ++i) *slots[i] = packed.data<double>()[i];
  for (const double layer : balance) shared.balance_loss += layer;
  for (const double layer : z) shared.z_loss += layer;
  shared.votes = {stop > 0, unwritten == 0};
  return shared;
}

void Trainer::steer(int64_t step) {
  const model::MoeSettings& moe = state_.model().settings().moe;
  options_.step.balance = model::balance_weights(moe.balance, step, options_.total_steps);
  options_.step.first_micro_batch = mesh_.along(Axis::kData).rank() * options_.step.micro_batches;
  const optim::ExpertIsolation* isolation =
      state_.optimizer().isolated() == nullptr ? nullptr : &state_.optimizer().isolated()->isolation();
  options_.step.controls = controls_of_step(context_.allocator, {state_.seed(), step, options_.total_steps},
                                            state_.model().experts(), state_.rules(), isolation, state_.controls);
}

// Biases: Wang et al., "Auxiliary-loss-free load balancing strategy for mixture-of-experts", 2024, algorithm 1; not of
// experts that sat the step out.
void Trainer::update_controls(const Shared& shared) {
  state_.history().add(shared.counts, shared.tokens.kept);
  const double rate = state_.model().settings().moe.router.bias_update_rate;
  for (size_t i = 0; i < shared.counts.size(); ++i) {
    model::LayerControls& layer = state_.controls[i];
    const std::vector<double>&counts = shared.counts[i], &loads = shared.loads[i];
    const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
    const double fair = sum / static_cast<double>(counts.size());
    const auto any = [](auto begin, auto end) {
      return std::any_of(begin, end, [](double load) { return load != 0; });
    };
    const auto smooth = loads.begin() + static_cast<ptrdiff_t>(counts.size());
    const bool has_loads = any(loads.begin(), smooth), has_smooth = any(smooth, loads.end());
    for (size_t e = 0; e < counts.size() && sum > 0; ++e) {
      layer.fractions.data<double>()[e] = counts[e] / sum;
      if (has_loads) layer.loads.data<double>()[e] = loads[e];
      if (has_smooth) layer.smooth_loads.data<double>()[e] = loads[counts.size() + e];
      const bool absent = layer.bias && !std::isfinite(options_.step.controls[i].bias.data<double>()[e]);
      if (!layer.bias || absent || counts[e] == fair) continue;
      layer.bias.data<double>()[e] += counts[e] < fair ? rate : -rate;
    }
  }
}

StepMetrics Trainer::metrics_of(const Shared& shared, const optim::StepReport& update, int64_t step) const {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = shared.loss;
  metrics.balance_loss = shared.balance_loss;
  metrics.z_loss = shared.z_loss;
  metrics.learning_rate = state_.optimizer().learning_rate(step, options_.total_steps);
  metrics.gradient_norm = update.gradient_norm;
  metrics.clip_factor = update.clip_factor;
  metrics.tokens = static_cast<int64_t>(options_.step.global_target_tokens);
  const MemoryStats memory = context_.allocator.stats();
  metrics.memory_in_use = memory.in_use;
  metrics.memory_peak = memory.peak;
  for (size_t i = 0; i < shared.counts.size(); ++i) {
    LayerLoad load{state_.model().experts().moe_layers()[i], {}, 0, {}};
    for (size_t e = 0; e < shared.counts[i].size(); ++e) {
      load.tokens.push_back(static_cast<int64_t>(shared.counts[i][e]));
      load.dropped += load.tokens.back() - static_cast<int64_t>(shared.tokens.kept[i][e]);
    }
    metrics.experts.push_back(std::move(load));
  }
  metrics.events = update.events;
  if (state_.optimizer().isolated() != nullptr) add_isolation(metrics);
  return metrics;
}

// From the step's events, and the state after it.
void Trainer::add_isolation(StepMetrics& metrics) const {
  const optim::ExpertIsolation& isolation = state_.optimizer().isolated()->isolation();
  for (LayerLoad& load : metrics.experts) {
    load.isolation.emplace();
    for (const optim::ExpertEvent& event : metrics.events) {
      const bool skipped = event.layer == load.layer && event.kind != optim::ExpertEvent::Kind::kReadmitted;
      if (skipped) load.isolation->skipped.push_back(event.expert);
    }
    for (size_t expert = 0; expert < load.tokens.size(); ++expert) {
      const auto id = static_cast<int64_t>(expert);
      if (isolation.quarantined(load.layer, id, metrics.step)) load.isolation->quarantined.push_back(id);
    }
  }
}

StepOutcome Trainer::step(const std::function<data::Batch()>& next_batch, const Votes& mine) {
  const Clock::time_point start = Clock::now();
  const double waited = mesh_.exposed_time().seconds;
  steer(state_.step + 1);
  state_.store().clear_gradients();
  gradients_.start_step();
  StepWork work(context_, state_, options_.step, mesh_.layout().pipeline, next_batch,
                [this](autograd::Parameter& parameter, bool last) { gradients_.ready(parameter, last); });
  interpreter_.run(work);
  const parallel::ReducerReport reduced = gradients_.finish();
  const Shared shared = share(work.totals(), mine);
  StepOutcome outcome;
  outcome.votes = shared.votes;
  const int64_t step = state_.step + 1;
  const optim::StepReport update = state_.optimizer().step(step, options_.total_steps, shared.tokens);
  outcome.finite = update.finite && std::isfinite(shared.loss);
  outcome.non_finite = std::isfinite(shared.loss) ? "the gradient of " + update.first_non_finite : "the loss";
  const double publishing = update.finite ? gradients_.publish() : 0;
  if (outcome.finite) {
    state_.step = step;
    update_controls(shared);
  }
  outcome.metrics = metrics_of(shared, update, step);
  outcome.metrics.data_wait_seconds = work.totals().data_wait;
  outcome.metrics.exposed_communication_seconds =
      reduced.exposed_seconds + publishing + interpreter_.exposed_seconds() + mesh_.exposed_time().seconds - waited;
  outcome.metrics.seconds = seconds_since(start);
  return outcome;
}

}  // namespace cadre::launch
