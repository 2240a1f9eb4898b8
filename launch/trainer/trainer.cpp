#include "launch/trainer/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "launch/trainer/expert_metrics.h"
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
  experts_choose_ = state.model().settings().moe.router.choice == kernels::ChoiceKind::kExpert;
  const config::Expression none = 0.0;
  measures_loads_ = balance.scope == model::BalanceScope::kGlobalBatch &&
                    (balance.importance_coef != none || balance.hinge_coef != none || balance.load_coef != none);
}

SharedTotals Trainer::share(const StepTotals& totals, const Votes& mine) const {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  ShareOptions options;
  options.global_target_tokens = options_.step.global_target_tokens;
  options.loads = measures_loads_;
  options.lowest = experts_choose_;
  options.isolated = state_.optimizer().isolated() != nullptr;
  options.experts = options_.step.measure_experts;
  options.joules = options_.joules ? options_.joules().value_or(kUnknown) : 0;
  return share_totals(mesh_, context_.allocator, totals, mine, options);
}

void Trainer::steer(int64_t step) {
  const model::MoeSettings& moe = state_.model().settings().moe;
  options_.step.balance = model::balance_weights(moe.balance, step, options_.total_steps);
  options_.step.measure_experts = options_.experts_every > 0 && (step == 1 || step % options_.experts_every == 0);
  mesh_.dispatched_rows().clear();
  options_.step.first_micro_batch = mesh_.along(Axis::kData).rank() * options_.step.micro_batches;
  const optim::ExpertIsolation* isolation =
      state_.optimizer().isolated() == nullptr ? nullptr : &state_.optimizer().isolated()->isolation();
  options_.step.controls = controls_of_step(context_.allocator, {state_.seed(), step, options_.total_steps},
                                            state_.model().experts(), state_.rules(), isolation, state_.controls);
}

// Biases: Wang et al., "Auxiliary-loss-free load balancing strategy for mixture-of-experts", 2024, algorithm 1; not of
// experts that sat the step out. Where only some experts are trained, routers rest, and so does this.
void Trainer::update_controls(const SharedTotals& shared) {
  state_.history().add(shared.counts, shared.tokens.kept);
  if (state_.rules().restricts()) return;
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
      if (layer.thresholds) update_threshold(layer.thresholds.data<double>()[e], shared.lowest[i], e);
      const bool absent = layer.bias && !std::isfinite(options_.step.controls[i].bias.data<double>()[e]);
      if (!layer.bias || absent || counts[e] == fair) continue;
      layer.bias.data<double>()[e] += counts[e] < fair ? rate : -rate;
    }
  }
}

// The exponential mean over steps of the mean over micro-batches; begun by the first. An expert that took nothing keeps
// what it has.
void Trainer::update_threshold(double& threshold, const std::vector<double>& lowest, size_t expert) const {
  constexpr double kRate = 0.1;
  const double micro_batches = lowest[lowest.size() / 2 + expert];
  if (micro_batches == 0) return;
  const double mean = lowest[expert] / micro_batches;
  threshold = state_.step == 1 ? mean : (1 - kRate) * threshold + kRate * mean;
}

StepMetrics Trainer::metrics_of(const SharedTotals& shared, const optim::StepReport& update, int64_t step) const {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = shared.loss;
  metrics.balance_loss = std::accumulate(shared.balance_loss.begin(), shared.balance_loss.end(), 0.0);
  metrics.z_loss = std::accumulate(shared.z_loss.begin(), shared.z_loss.end(), 0.0);
  metrics.learning_rate = state_.optimizer().learning_rate(step, options_.total_steps);
  metrics.gradient_norm = update.gradient_norm;
  metrics.clip_factor = update.clip_factor;
  metrics.tokens = static_cast<int64_t>(options_.step.global_target_tokens);
  if (std::isfinite(shared.joules)) metrics.joules = shared.joules;
  const MemoryStats memory = context_.allocator.stats();
  metrics.memory_in_use = memory.in_use;
  metrics.memory_peak = memory.peak;
  const model::Transformer& model = state_.model();
  metrics.experts = layer_loads(model.experts(), shared, state_.history(), update.norms);
  const double row_bytes =
      static_cast<double>(model.settings().model.hidden_size) * static_cast<double>(size_of(context_.dtype));
  metrics.dispatch = dispatch_traffic(shared, mesh_.layout(), row_bytes);
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
      const auto place = static_cast<int64_t>(expert);
      if (isolation.quarantined(load.layer, place, metrics.step))
        load.isolation->quarantined.push_back(load.id(expert));
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
  const SharedTotals shared = share(work.totals(), mine);
  StepOutcome outcome;
  outcome.votes = shared.votes;
  const int64_t step = state_.step + 1;
  const optim::StepReport update =
      state_.optimizer().step(step, options_.total_steps, shared.tokens, options_.step.measure_experts);
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
