#include "launch/trainer/trainer.h"

#include <chrono>
#include <cmath>

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
      gradients_(context, state.shard(), state.store(), state.optimizer(), options_.bucket_bytes),
      interpreter_(mesh.along(Axis::kPipeline), context.allocator, schedule_for(mesh, options_)) {}

// One all_reduce for everything small.
Votes Trainer::share(StepTotals& totals, const Votes& mine) {
  std::vector<double*> slots{&totals.loss, &totals.balance_loss, &totals.z_loss};
  for (auto& layer : totals.counts) {
    for (double& count : layer) slots.push_back(&count);
  }
  for (double& dropped : totals.dropped) slots.push_back(&dropped);
  double stop = mine.stop ? 1 : 0, unwritten = mine.checkpoint_written ? 0 : 1;
  slots.push_back(&stop);
  slots.push_back(&unwritten);
  Tensor packed = Tensor::empty(context_.allocator, Dtype::kF64, Shape{static_cast<int64_t>(slots.size())});
  for (size_t i = 0; i < slots.size(); ++i) packed.data<double>()[i] = *slots[i];
  mesh_.world().all_reduce(packed, parallel::Reduction::kSum, {"step_statistics"})->wait();
  for (size_t i = 0; i < slots.size(); ++i) *slots[i] = packed.data<double>()[i];
  return {stop > 0, unwritten == 0};
}

void Trainer::update_fractions(const StepTotals& totals) {
  for (size_t i = 0; i < totals.counts.size(); ++i) {
    double sum = 0;
    for (const double count : totals.counts[i]) sum += count;
    for (size_t e = 0; e < totals.counts[i].size() && sum > 0; ++e) {
      state_.fractions[i].data<double>()[e] = totals.counts[i][e] / sum;
    }
  }
}

StepMetrics Trainer::metrics_of(const StepTotals& totals, const optim::StepReport& update, int64_t step) const {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = totals.loss;
  metrics.balance_loss = totals.balance_loss;
  metrics.z_loss = totals.z_loss;
  metrics.learning_rate = state_.optimizer().learning_rate(step, options_.total_steps);
  metrics.gradient_norm = update.gradient_norm;
  metrics.clip_factor = update.clip_factor;
  metrics.tokens = static_cast<int64_t>(options_.step.global_target_tokens);
  metrics.data_wait_seconds = totals.data_wait;
  const MemoryStats memory = context_.allocator.stats();
  metrics.memory_in_use = memory.in_use;
  metrics.memory_peak = memory.peak;
  const int64_t first_moe_layer = state_.model().settings().moe.dense_layers;
  for (size_t i = 0; i < totals.counts.size(); ++i) {
    LayerLoad load{first_moe_layer + static_cast<int64_t>(i), {}, static_cast<int64_t>(totals.dropped[i])};
    for (const double count : totals.counts[i]) load.tokens.push_back(static_cast<int64_t>(count));
    metrics.experts.push_back(std::move(load));
  }
  return metrics;
}

StepOutcome Trainer::step(const std::function<data::Batch()>& next_batch, const Votes& mine) {
  const Clock::time_point start = Clock::now();
  const double waited = mesh_.exposed_time().seconds;
  state_.store().clear_gradients();
  gradients_.start_step();
  StepWork work(context_, state_, options_.step, mesh_.layout().pipeline, next_batch,
                [this](autograd::Parameter& parameter, bool last) { gradients_.ready(parameter, last); });
  interpreter_.run(work);
  const parallel::ReducerReport reduced = gradients_.finish();
  StepTotals totals = work.totals();
  StepOutcome outcome;
  outcome.votes = share(totals, mine);
  const int64_t step = state_.step + 1;
  const optim::StepReport update = state_.optimizer().step(step, options_.total_steps);
  outcome.finite = update.finite && std::isfinite(totals.loss);
  outcome.non_finite = std::isfinite(totals.loss) ? "the gradient of " + update.first_non_finite : "the loss";
  const double publishing = update.finite ? gradients_.publish() : 0;
  if (outcome.finite) {
    state_.step = step;
    update_fractions(totals);
  }
  outcome.metrics = metrics_of(totals, update, step);
  outcome.metrics.exposed_communication_seconds =
      reduced.exposed_seconds + publishing + interpreter_.exposed_seconds() + mesh_.exposed_time().seconds - waited;
  outcome.metrics.seconds = seconds_since(start);
  return outcome;
}

}  // namespace cadre::launch
