#include "launch/trainer/step_work.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

#include "autograd/ops/cross_entropy.h"
#include "autograd/ops/elements.h"

namespace cadre::launch {

using autograd::Tape;
using autograd::Variable;

Tensor to_tensor(const autograd::Context& context, const std::vector<int32_t>& values) {
  Tensor tensor = Tensor::empty(context.allocator, Dtype::kI32, Shape{static_cast<int64_t>(values.size())});
  if (!values.empty()) std::memcpy(tensor.raw(), values.data(), tensor.bytes());
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

StepWork::StepWork(const autograd::Context& context, TrainState& state, const StepOptions& options, int ranks,
                   std::function<data::Batch()> next_batch, Ready ready)
    : context_(context),
      state_(state),
      options_(options),
      ranks_(ranks),
      next_batch_(std::move(next_batch)),
      ready_(std::move(ready)) {
  const model::ExpertLayout& experts = state.model().experts();
  const size_t layers = experts.moe_layers().size();
  for (const int64_t layer : experts.moe_layers()) {
    const auto count = static_cast<size_t>(experts.layer(layer).experts());
    totals_.counts.emplace_back(count, 0.0);
    totals_.loads.emplace_back(2 * count);
    totals_.lowest.emplace_back(2 * count);
    if (options.measure_experts) totals_.score_totals.emplace_back(count + 1, 0.0);
  }
  totals_.kept = totals_.faults = totals_.counts;
  totals_.balance_loss.resize(layers);
  totals_.z_loss.resize(layers);
}

// Loaded when first asked for, by a forward or by the shape of a message; kept until every stage here has had it.
void StepWork::load(int micro_batch) {
  while (static_cast<int>(rows_.size()) <= micro_batch) {
    const auto asked = std::chrono::steady_clock::now();
    Loaded& loaded = batches_[static_cast<int>(rows_.size())] = {next_batch_(), state_.model().stages().size()};
    rows_.push_back(loaded.batch.samples * loaded.batch.seq_length);
    totals_.data_wait += std::chrono::duration<double>(std::chrono::steady_clock::now() - asked).count();
  }
}

void StepWork::release(int micro_batch) {
  const auto found = batches_.find(micro_batch);
  if (--found->second.readers == 0) batches_.erase(found);
}

autograd::TensorSpec StepWork::stream(int micro_batch) {
  load(micro_batch);
  return {context_.dtype, Shape{rows_[static_cast<size_t>(micro_batch)], state_.model().settings().model.hidden_size}};
}

Tensor StepWork::forward(int stage, int micro_batch, Tensor input) {
  load(micro_batch);
  const data::Batch& batch = batches_.at(micro_batch).batch;
  InFlight flight{std::make_unique<Tape>(context_), {}, {}, {}, {}};
  flight.tape->on_parameter_ready = [this](autograd::Parameter& parameter) { on_ready(parameter); };
  if (input) flight.input = Variable::leaf(std::move(input), /*requires_gradient=*/true);
  model::ForwardInputs inputs;
  inputs.options.global_tokens = options_.global_target_tokens;
  inputs.options.balance = options_.balance;
  inputs.options.seed = state_.seed();
  inputs.options.step = state_.step + 1;
  inputs.options.first_token = (options_.first_micro_batch + micro_batch) * batch.samples * batch.seq_length;
  inputs.options.measure_scores = options_.measure_experts;
  inputs.controls = &options_.controls;
  inputs.stage = static_cast<size_t>(stage / ranks_);
  inputs.stream = flight.input;
  if (options_.routing.replay) inputs.replay = options_.routing.replay(micro_batch);
  model::TransformerOutput output =
      state_.model().forward(*flight.tape, to_tokens(context_, batch, options_.reset_at_documents), inputs);
  add_routing(flight, output.routing);
  if (options_.routing.record) options_.routing.record(micro_batch, output.routing);
  Tensor stream;
  if (output.logits) {
    add_loss(flight, output, batch);
  } else {
    stream = output.stream.tensor();
    flight.output = std::move(output.stream);
  }
  release(micro_batch);
  in_flight_[{stage, micro_batch}] = std::move(flight);
  return stream;
}

void StepWork::add_loss(InFlight& flight, model::TransformerOutput& output, const data::Batch& batch) {
  const Variable targets = Variable::leaf(to_tensor(context_, batch.targets));
  const Variable loss = flight.tape->apply<autograd::CrossEntropy>({std::move(output.logits), targets},
                                                                   1.0 / options_.global_target_tokens);
  totals_.loss.add(*loss.tensor().data<double>());
  flight.losses.push_back(flight.tape->seed(loss));
}

void StepWork::add_routing(InFlight& flight, const std::vector<model::RoutingResult>& routing) {
  for (const model::RoutingResult& layer : routing) {
    const size_t index = state_.model().experts().moe_index(layer.layer);
    totals_.balance_loss[index].add(layer.balance_loss());
    totals_.z_loss[index].add(layer.z_loss_value());
    for (const Variable& loss : layer.losses()) flight.losses.push_back(flight.tape->seed(loss));
    const int64_t experts = layer.counts.shape()[1];
    if (layer.gradient_faults) flight.faults.emplace_back(index, layer.gradient_faults);
    const int64_t computing = layer.offsets.elements() - 1;
    for (int64_t e = 0; layer.output_faults && e < computing; ++e) {
      totals_.faults[index][static_cast<size_t>(e)] += static_cast<double>(layer.output_faults.data<int64_t>()[e]);
    }
    for (int64_t e = 0; e < experts; ++e) {
      if (layer.loads) totals_.loads[index][static_cast<size_t>(e)].add(autograd::read_element(layer.loads, 0, e));
      if (!layer.smooth_loads) continue;
      totals_.loads[index][static_cast<size_t>(experts + e)].add(autograd::read_element(layer.smooth_loads, 0, e));
    }
    for (int64_t e = 0; layer.lowest && e < experts; ++e) {
      const double key = layer.lowest.data<double>()[e];
      totals_.lowest[index][static_cast<size_t>(e)].add(std::isfinite(key) ? key : 0);
      totals_.lowest[index][static_cast<size_t>(experts + e)].add(std::isfinite(key) ? 1 : 0);
    }
    for (int64_t j = 0; layer.score_totals && j < layer.score_totals.elements(); ++j) {
      totals_.score_totals[index][static_cast<size_t>(j)] += layer.score_totals.data<double>()[j];
    }
    for (int64_t j = 0; j < layer.counts.elements(); ++j) {
      const double count = static_cast<double>(layer.counts.data<int64_t>()[j]);
      totals_.counts[index][static_cast<size_t>(j % experts)] += count;
      if (j % experts >= computing) totals_.kept[index][static_cast<size_t>(j % experts)] += count;
    }
    const int64_t* const offsets = layer.offsets.data<int64_t>();
    for (int64_t expert = 0; expert < computing; ++expert) {
      totals_.kept[index][static_cast<size_t>(expert)] += static_cast<double>(offsets[expert + 1] - offsets[expert]);
    }
  }
}

Tensor StepWork::backward(int stage, int micro_batch, Tensor gradient, autograd::BackwardPart part) {
  const auto found = in_flight_.find({stage, micro_batch});
  InFlight& flight = found->second;
  std::vector<Tape::Seed> seeds = std::move(flight.losses);
  if (flight.output) seeds.push_back({std::move(flight.output), std::move(gradient)});
  flight.tape->backward(std::move(seeds), part);
  for (const auto& [index, faults] : std::exchange(flight.faults, {})) {
    for (size_t expert = 0; expert < faults->size(); ++expert) {
      totals_.faults[index][expert] += static_cast<double>((*faults)[expert]);
    }
  }
  Tensor result = flight.input ? flight.input.gradient() : Tensor();
  flight.input = Variable();
  if (part == autograd::BackwardPart::kAll) in_flight_.erase(found);
  return result;
}

void StepWork::backward_weights(int stage, int micro_batch) {
  const auto found = in_flight_.find({stage, micro_batch});
  found->second.tape->backward_parameters();
  in_flight_.erase(found);
}

void StepWork::on_ready(autograd::Parameter& parameter) {
  const int64_t all = options_.micro_batches * state_.model().stages_using(parameter);
  ready_(parameter, ++contributions_[&parameter] == all);
}

}  // namespace cadre::launch
