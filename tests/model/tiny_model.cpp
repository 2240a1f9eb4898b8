#include "tests/model/tiny_model.h"

#include <algorithm>

#include "autograd/ops/cross_entropy.h"
#include "core/rng.h"

namespace cadre::model::testing {
namespace {

using autograd::Tape;
using autograd::Variable;

constexpr int64_t kIgnored = -1;

double element(const Tensor& tensor, int64_t i) {
  return tensor.dtype() == Dtype::kF64 ? tensor.data<double>()[i] : static_cast<double>(tensor.data<float>()[i]);
}

std::vector<double> elements(const Tensor& tensor) {
  std::vector<double> values;
  for (int64_t i = 0; i < tensor.elements(); ++i) values.push_back(element(tensor, i));
  return values;
}

}  // namespace

NetworkSettings tiny_settings() {
  NetworkSettings settings;
  settings.model.hidden_size = 8;
  settings.model.num_layers = 2;
  settings.model.num_heads = 4;
  settings.model.num_kv_heads = 2;
  settings.model.head_dim = 6;
  settings.model.ffn_hidden_size = 5;
  settings.model.vocab_size = 11;
  settings.model.qk_norm = true;
  settings.model.init_std = 0.4;
  settings.moe.num_experts = 4;
  settings.moe.top_k = 2;
  settings.moe.ffn_hidden_size = 3;
  settings.moe.shared_experts = 1;
  settings.moe.balance.aux_loss_coef = 0.5;
  settings.moe.balance.z_loss_coef = 0.25;
  return settings;
}

TinyModel::TinyModel(Dtype dtype, int thread_count, kernels::Isa isa)
    : threads(thread_count), context{{threads, isa}, allocator, dtype} {}

TinyModel::TinyModel(NetworkSettings settings, Dtype dtype, Extents extents, int thread_count, kernels::Isa isa)
    : TinyModel(dtype, thread_count, isa) {
  transformer = std::make_unique<Transformer>(store, settings);
  store.materialise(context, 21);
  draw(extents);
}

TinyModel::TinyModel(NetworkSettings settings, const ExpertShard& shard, Dtype dtype, Extents extents)
    : TinyModel(dtype, 1, kernels::best_isa()) {
  transformer = std::make_unique<Transformer>(store, settings, shard);
  store.materialise(context, 21);
  draw(extents);
}

void TinyModel::draw(Extents extents) {
  const auto vocabulary = static_cast<uint64_t>(*transformer->settings().model.vocab_size.value);
  target_count = 0;
  Rng rng(22, RngPurpose::kTest, extents.stream);
  std::vector<int64_t> tokens, starts, wanted;
  for (int64_t b = 0; b < extents.batch; ++b) {
    for (int64_t t = 0; t < extents.length; ++t) {
      // Documents of 3 + b tokens, each with a last token that has no target.
      const int64_t document = 3 + b;
      tokens.push_back(static_cast<int64_t>(rng.below(vocabulary)));
      starts.push_back(t / document * document);
      const bool last = (t + 1) % document == 0;
      wanted.push_back(last ? kIgnored : static_cast<int64_t>(rng.below(vocabulary)));
      target_count += last ? 0 : 1;
    }
  }
  batch = tokens_of(tokens, extents.batch);
  batch.segment_start = tensor_of(starts);
  targets = tensor_of(wanted);
}

Tensor TinyModel::tensor_of(const std::vector<int64_t>& values) {
  Tensor tensor = Tensor::empty(allocator, Dtype::kI32, Shape{static_cast<int64_t>(values.size())});
  std::transform(values.begin(), values.end(), tensor.data<int32_t>(),
                 [](int64_t value) { return static_cast<int32_t>(value); });
  return tensor;
}

TokenBatch TinyModel::tokens_of(const std::vector<int64_t>& tokens, int64_t batch_size, int64_t past) {
  TokenBatch result;
  result.batch = batch_size;
  result.length = batch_size == 0 ? 0 : static_cast<int64_t>(tokens.size()) / batch_size;
  result.tokens = tensor_of(tokens);
  result.past = past;
  return result;
}

double TinyModel::value(int64_t i) const { return element(store.values(), i); }

void TinyModel::set_value(int64_t i, double value) {
  if (context.dtype == Dtype::kF64) {
    store.values().data<double>()[i] = value;
  } else {
    store.values().data<float>()[i] = static_cast<float>(value);
  }
}

ForwardOptions TinyModel::training_options() const {
  return {.training = true, .global_tokens = static_cast<double>(std::max<int64_t>(1, batch.batch * batch.length))};
}

std::vector<Tape::Seed> TinyModel::seeds_of(Tape& tape, TransformerOutput output, StepResult& result) {
  const Variable loss = tape.apply<autograd::CrossEntropy>({std::move(output.logits), Variable::leaf(targets)},
                                                           1.0 / double(std::max<int64_t>(1, target_count)));
  result.cross_entropy = *loss.tensor().data<double>();
  std::vector<Tape::Seed> seeds = {tape.seed(loss)};
  for (const RoutingResult& routing : output.routing) {
    result.balance += routing.balance_loss();
    result.z += routing.z_loss_value();
    result.trace.push_back(routing.ids);
    for (const Variable& auxiliary : routing.losses()) seeds.push_back(tape.seed(auxiliary));
  }
  result.routing = std::move(output.routing);
  return seeds;
}

StepResult TinyModel::step(const RoutingTrace* replay, const std::vector<LayerControls>* controls, bool backward) {
  StepResult result;
  store.touch();
  store.clear_gradients();
  const size_t before = allocator.stats().in_use;
  allocator.reset_peak();
  Tape tape(context, backward);
  ForwardInputs inputs;
  inputs.options = training_options();
  inputs.replay = replay;
  inputs.controls = controls;
  std::vector<Tape::Seed> seeds = seeds_of(tape, transformer->forward(tape, batch, inputs), result);
  if (backward) {
    tape.backward(std::move(seeds), part);
    if (part == autograd::BackwardPart::kInputsOnly) tape.backward_parameters();
    store.zero_untouched_gradients();
    result.gradients = elements(store.gradients());
  }
  result.peak = allocator.stats().peak - before;
  return result;
}

void TinyModel::accumulate(const std::function<void(autograd::Parameter&)>& ready) {
  StepResult result;
  Tape tape(context);
  tape.on_parameter_ready = ready;
  ForwardInputs inputs;
  inputs.options = training_options();
  std::vector<Tape::Seed> seeds = seeds_of(tape, transformer->forward(tape, batch, inputs), result);
  tape.backward(std::move(seeds), part);
  if (part == autograd::BackwardPart::kInputsOnly) tape.backward_parameters();
}

StepResult TinyModel::evaluate() {
  StepResult result;
  Tape tape(context, false);
  ForwardInputs inputs;
  inputs.options.training = false;
  seeds_of(tape, transformer->forward(tape, batch, inputs), result);
  return result;
}

std::vector<double> TinyModel::logits(const TokenBatch& tokens, GenerationState* state) {
  Tape tape(context, false);
  ForwardInputs inputs;
  inputs.options.training = false;
  inputs.state = state;
  return elements(transformer->forward(tape, tokens, inputs).logits.tensor());
}

}  // namespace cadre::model::testing
