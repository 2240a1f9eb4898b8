#include "launch/trainer/trainer.h"

#include <chrono>
#include <cmath>
#include <cstring>

#include "autograd/ops/cross_entropy.h"

namespace cadre::launch {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

// Sums over micro-batches, then over ranks.
struct Trainer::Totals {
  double loss = 0, balance_loss = 0, z_loss = 0;
  double data_wait = 0;
  std::vector<int64_t> layers;              // index of each MoE layer
  std::vector<std::vector<double>> counts;  // by MoE layer: choices of each expert (exact in f64)
  std::vector<double> dropped;
};

Tensor to_tensor(const autograd::Context& context, const std::vector<int32_t>& values) {
  Tensor tensor = Tensor::empty(context.allocator, Dtype::kI32, Shape{static_cast<int64_t>(values.size())});
  std::memcpy(tensor.raw(), values.data(), tensor.bytes());
  return tensor;
}

model::TokenBatch to_tokens(const autograd::Context& context, const data::Batch& batch, bool reset_at_documents) {
  model::TokenBatch tokens;
  tokens.batch = batch.samples;
  tokens.length = batch.seq_length;
  tokens.tokens = to_tensor(context, batch.tokens);
  if (reset_at_documents) tokens.segment_start = to_tensor(context, batch.segment_start);
  return tokens;
}

Trainer::Trainer(const autograd::Context& context, TrainState& state, parallel::Mesh& mesh, TrainerOptions options)
    : context_(context),
      state_(state),
      mesh_(mesh),
      options_(options),
      gradients_(mesh, state.store(), options.bucket_bytes) {}

void Trainer::run_micro_batch(const data::Batch& batch, int64_t index, Totals& totals) {
  autograd::Tape tape(context_);
  if (index + 1 == options_.micro_batches) {
    tape.on_parameter_ready = [this](autograd::Parameter& parameter) {
      parameter.zero_gradient_if_empty();  // before its bucket may be reduced
      gradients_.mark_ready(parameter);
    };
  }
  model::ForwardInputs inputs;
  inputs.options.global_tokens = options_.global_target_tokens;
  inputs.fractions = &state_.fractions;
  if (options_.routing.replay) inputs.replay = options_.routing.replay(index);
  model::TransformerOutput out =
      state_.model().forward(tape, to_tokens(context_, batch, options_.reset_at_documents), inputs);
  const autograd::Variable targets = autograd::Variable::leaf(to_tensor(context_, batch.targets));
  const autograd::Variable loss =
      tape.apply<autograd::CrossEntropy>({std::move(out.logits), targets}, 1.0 / options_.global_target_tokens);
  totals.loss += *loss.tensor().data<double>();
  add_routing(out.routing, totals);
  if (options_.routing.record) options_.routing.record(index, out.routing);
  std::vector<autograd::Tape::Seed> seeds{tape.seed(loss)};
  for (const model::RoutingResult& routing : out.routing) {
    seeds.push_back(tape.seed(routing.balance_loss));
    seeds.push_back(tape.seed(routing.z_loss));
  }
  out.routing.clear();
  tape.backward(std::move(seeds));
}

void Trainer::add_routing(const std::vector<model::RoutingResult>& routing, Totals& totals) const {
  totals.layers.resize(routing.size());
  totals.counts.resize(routing.size());
  totals.dropped.resize(routing.size());
  for (size_t i = 0; i < routing.size(); ++i) {
    const model::RoutingResult& layer = routing[i];
    totals.layers[i] = layer.layer;
    totals.balance_loss += *layer.balance_loss.tensor().data<double>();
    totals.z_loss += *layer.z_loss.tensor().data<double>();
    const int64_t experts = layer.counts.shape()[1];
    totals.counts[i].resize(static_cast<size_t>(experts));
    double choices = 0;
    for (int64_t j = 0; j < layer.counts.elements(); ++j) {
      const double count = static_cast<double>(layer.counts.data<int64_t>()[j]);
      totals.counts[i][static_cast<size_t>(j % experts)] += count;
      choices += count;
    }
    totals.dropped[i] += choices - static_cast<double>(layer.offsets.data<int64_t>()[experts]);
  }
}

// One all_reduce for everything small.
Votes Trainer::share(Totals& totals, const Votes& mine) {
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

void Trainer::update_fractions(const Totals& totals) {
  for (size_t i = 0; i < totals.counts.size(); ++i) {
    double sum = 0;
    for (const double count : totals.counts[i]) sum += count;
    for (size_t e = 0; e < totals.counts[i].size() && sum > 0; ++e) {
      state_.fractions[i].data<double>()[e] = totals.counts[i][e] / sum;
    }
  }
}

StepOutcome Trainer::step(const std::function<data::Batch()>& next_batch, const Votes& mine) {
  const Clock::time_point start = Clock::now();
  Totals totals;
  state_.store().clear_gradients();
  gradients_.start_step();
  for (int64_t m = 0; m < options_.micro_batches; ++m) {
    const Clock::time_point asked = Clock::now();
    const data::Batch batch = next_batch();
    totals.data_wait += seconds_since(asked);
    run_micro_batch(batch, m, totals);
  }
  state_.store().zero_untouched_gradients();
  const parallel::ReducerReport reduced = gradients_.finish();
  StepOutcome outcome;
  outcome.votes = share(totals, mine);
  const int64_t step = state_.step + 1;
  const optim::StepReport update = state_.optimizer().step(step, options_.total_steps);
  outcome.finite = update.finite && std::isfinite(totals.loss);
  outcome.non_finite = std::isfinite(totals.loss) ? "the gradient of " + update.first_non_finite : "the loss";
  if (outcome.finite) {
    state_.step = step;
    update_fractions(totals);
  }
  StepMetrics& metrics = outcome.metrics;
  metrics.step = step;
  metrics.loss = totals.loss;
  metrics.balance_loss = totals.balance_loss;
  metrics.z_loss = totals.z_loss;
  metrics.learning_rate = state_.optimizer().learning_rate(step, options_.total_steps);
  metrics.gradient_norm = update.gradient_norm;
  metrics.clip_factor = update.clip_factor;
  metrics.tokens = static_cast<int64_t>(options_.global_target_tokens);
  metrics.data_wait_seconds = totals.data_wait;
  metrics.exposed_communication_seconds = reduced.exposed_seconds;
  const MemoryStats memory = context_.allocator.stats();
  metrics.memory_in_use = memory.in_use;
  metrics.memory_peak = memory.peak;
  for (size_t i = 0; i < totals.layers.size(); ++i) {
    LayerLoad load{totals.layers[i], {}, static_cast<int64_t>(totals.dropped[i])};
    for (const double count : totals.counts[i]) load.tokens.push_back(static_cast<int64_t>(count));
    metrics.experts.push_back(std::move(load));
  }
  metrics.seconds = seconds_since(start);
  return outcome;
}

}  // namespace cadre::launch
