#include "model/transformer.h"

#include <algorithm>

#include "autograd/ops/embedding.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/norm.h"
#include "core/error.h"
#include "kernels/attention.h"
#include "model/flops.h"

namespace cadre::model {

using autograd::RecomputeScope;
using autograd::Variable;

namespace {

// Of a tied embedding, whose two uses may be in different pipeline stages.
constexpr int kEmbeddingUse = 0, kHeadUse = 1;

}  // namespace

int layer_of(const std::string& segment) {
  const std::string prefix = "layers.";
  return segment.starts_with(prefix) ? std::stoi(segment.substr(prefix.size())) : -1;
}

std::vector<LayerControls> first_controls(Allocator& allocator, const ExpertLayout& experts,
                                          const RouterSettings& router) {
  std::vector<LayerControls> controls;
  for (const int64_t layer : experts.moe_layers()) {
    const int64_t count = experts.layer(layer).experts();
    const auto filled = [&](double value) {
      Tensor tensor = Tensor::empty(allocator, Dtype::kF64, Shape{count});
      std::fill_n(tensor.data<double>(), count, value);
      return tensor;
    };
    const double share = 1.0 / static_cast<double>(count);
    LayerControls& of_layer = controls.emplace_back();
    of_layer.fractions = filled(share);
    of_layer.loads = filled(share);
    of_layer.smooth_loads = filled(share);
    if (router.bias_update_rate > 0) of_layer.bias = filled(0);
    const bool sigmoid = router.score == autograd::ScoreKind::kSigmoid;
    if (router.choice == kernels::ChoiceKind::kExpert) of_layer.thresholds = filled(sigmoid ? 0.5 : share);
  }
  return controls;
}

Transformer::Layer::Layer(autograd::ParameterStore& store, const NetworkSettings& settings, const LayerExperts& experts,
                          int64_t index, const ExpertShard& shard)
    : attention_norm(&store.declare("layers." + std::to_string(index) + ".attention_norm.weight",
                                    Shape{settings.model.hidden_size}, -1, false)),
      attention(store, settings, index),
      ffn_norm(&store.declare("layers." + std::to_string(index) + ".ffn_norm.weight", Shape{settings.model.hidden_size},
                              -1, false)),
      ffn(store, settings, experts, index, shard) {}

Transformer::Transformer(autograd::ParameterStore& store, NetworkSettings settings)
    : Transformer(store, settings, ExpertShards::whole(ExpertLayout(settings))) {}

Transformer::Transformer(autograd::ParameterStore& store, NetworkSettings settings, const ExpertShards& shards)
    : Transformer(store, settings, shards, {StageSpan::whole(settings.model.num_layers)}) {}

Transformer::Transformer(autograd::ParameterStore& store, NetworkSettings settings, const ExpertShards& shards,
                         std::vector<StageSpan> stages)
    : settings_(std::move(settings)), experts_(settings_), stages_(std::move(stages)) {
  const ModelSettings& model = settings_.model;
  if (model.vocab_size.is_auto()) throw InternalError("the vocabulary size of the model is not resolved");
  const Shape table{*model.vocab_size.value, model.hidden_size};
  const auto declare_embedding = [&] {
    autograd::Parameter& embedding = store.declare(kEmbeddingName, table, model.init_std, false);
    embedding.uses = model.tie_embeddings ? 2 : 1;
    return &embedding;
  };
  layers_.resize(static_cast<size_t>(model.num_layers));
  for (const StageSpan& stage : stages_) {
    if (stage.first) embedding_ = declare_embedding();
    for (int64_t i = stage.begin; i < stage.end; ++i) {
      layers_[static_cast<size_t>(i)] = std::make_unique<Layer>(store, settings_, experts_.layer(i), i, shards.of(i));
    }
    if (!stage.last) continue;
    final_norm_ = &store.declare("final_norm.weight", Shape{model.hidden_size}, -1, false);
    if (!model.tie_embeddings) head_ = &store.declare("head.weight", table, model.init_std, true);
    if (model.tie_embeddings) head_ = embedding_ != nullptr ? embedding_ : declare_embedding();
  }
}

int Transformer::stages_using(const autograd::Parameter& parameter) const {
  const bool both = &parameter == embedding_ && &parameter == head_;
  return both && stages_.size() > 1 ? 2 : 1;
}

Transformer::Normed Transformer::residual_norm(autograd::Tape& tape, Variable x, Variable branch,
                                               autograd::Parameter& weight) const {
  const double eps = settings_.model.norm_eps;
  const bool recompute = settings_.recompute.part(RecomputePart::kNorms);
  const bool fused = branch && !recompute && !settings_.recompute.layers();
  if (fused) {
    auto out = tape.apply_all<autograd::AddRmsNorm>({std::move(x), std::move(branch), Variable::of(weight)}, eps);
    return {out[0], out[1]};
  }
  Variable sum = branch ? tape.apply<autograd::Add>({std::move(x), std::move(branch)}) : std::move(x);
  const RecomputeScope scope(tape, recompute);
  return {sum, tape.apply<autograd::RmsNorm>({sum, Variable::of(weight)}, eps)};
}

SequenceLayout Transformer::layout_of(autograd::Tape& tape, const TokenBatch& batch, const GenerationState* state) {
  const autograd::Context& context = tape.context();
  const int64_t needed = std::max(batch.past + batch.length, state ? state->capacity : 0);
  if (!rotary_table_ || rotary_table_.shape()[0] < needed || rotary_table_.dtype() != context.dtype) {
    rotary_table_ = Tensor::empty(context.allocator, context.dtype, Shape{needed, settings_.model.head_size()});
    kernels::rotary_table(context.exec, settings_.model.rope_theta, rotary_table_);
  }
  Tensor positions = Tensor::empty(context.allocator, Dtype::kI32, Shape{batch.batch * batch.length});
  const int32_t* start = batch.segment_start ? batch.segment_start.data<int32_t>() : nullptr;
  for (int64_t i = 0; i < positions.elements(); ++i) {
    const int64_t position = batch.past + i % batch.length;
    positions.data<int32_t>()[i] = static_cast<int32_t>(position - (start ? start[i] : 0));
  }
  SequenceLayout layout;
  layout.batch = batch.batch;
  layout.length = batch.length;
  layout.past = batch.past;
  layout.capacity = state ? state->capacity : 0;
  layout.positions = Variable::leaf(std::move(positions));
  layout.segment_start = batch.segment_start ? Variable::leaf(batch.segment_start) : Variable();
  layout.rotary_table = Variable::leaf(rotary_table_);
  return layout;
}

LayerControls Transformer::controls_of(const ForwardInputs& inputs, int64_t index) const {
  const size_t moe_index = experts_.moe_index(index);
  if (inputs.controls) return inputs.controls->at(moe_index);
  LayerControls controls;
  if (moe_index < biases_.size()) controls.bias = biases_[moe_index];
  if (moe_index < thresholds_.size()) controls.thresholds = thresholds_[moe_index];
  return controls;
}

void Transformer::run_layer(autograd::Tape& tape, const SequenceLayout& layout, const ForwardInputs& inputs,
                            int64_t index, Residual& residual, std::vector<RoutingResult>& routing) {
  Layer& layer = *layers_[static_cast<size_t>(index)];
  const bool moe = experts_.is_moe(index);
  const size_t moe_index = experts_.moe_index(index);
  ForwardOptions options = inputs.options;
  options.sequences = layout.batch;
  const RecomputeScope scope(tape, settings_.recompute.layers());
  Normed normed = residual_norm(tape, std::move(residual.x), std::move(residual.branch), *layer.attention_norm);
  KvCache* cache = inputs.state ? &inputs.state->layers[static_cast<size_t>(index)] : nullptr;
  Variable branch = layer.attention.forward(tape, layout, std::move(normed.y), cache);
  normed = residual_norm(tape, std::move(normed.sum), std::move(branch), *layer.ffn_norm);
  residual.branch = layer.ffn.forward(tape, options, std::move(normed.y),
                                      moe && inputs.replay ? inputs.replay->at(moe_index) : Tensor(),
                                      moe ? controls_of(inputs, index) : LayerControls(), routing);
  residual.x = std::move(normed.sum);
}

TransformerOutput Transformer::forward(autograd::Tape& tape, const TokenBatch& batch, const ForwardInputs& inputs) {
  const StageSpan& stage = stages_.at(inputs.stage);
  const SequenceLayout layout = layout_of(tape, batch, inputs.state);
  TransformerOutput output;
  Residual residual{inputs.stream, {}};
  if (stage.first) {
    residual.x =
        tape.apply<autograd::Embedding>({Variable::leaf(batch.tokens), Variable::of_use(*embedding_, kEmbeddingUse)});
  }
  for (int64_t i = stage.begin; i < stage.end; ++i) {
    run_layer(tape, layout, inputs, i, residual, output.routing);
    if (settings_.recompute.layers()) join(tape, residual);  // one kept tensor between layers instead of two
    tape.discard_recomputable();
  }
  if (!stage.last) {
    join(tape, residual);
    output.stream = std::move(residual.x);
    return output;
  }
  Normed normed = residual_norm(tape, std::move(residual.x), std::move(residual.branch), *final_norm_);
  output.logits =
      tape.apply<autograd::GroupedLinear>({std::move(normed.y), Variable::of_use(*head_, kHeadUse), Variable()});
  tape.discard_recomputable();
  return output;
}

void Transformer::join(autograd::Tape& tape, Residual& residual) {
  if (!residual.branch) return;
  residual.x = tape.apply<autograd::Add>({std::move(residual.x), std::move(residual.branch)});
  residual.branch = Variable();
}

int64_t Transformer::active_parameters() const {
  int64_t total = *settings_.model.vocab_size.value * settings_.model.hidden_size;
  for (int64_t i = 0; i < settings_.model.num_layers; ++i)
    total += active_parameters_of_layer(settings_, experts_.layer(i));
  return total;
}

double Transformer::training_flops_per_token(int64_t sequence_length) const {
  double forward = head_flops(settings_);
  for (int64_t i = 0; i < settings_.model.num_layers; ++i)
    forward += layer_flops(settings_, experts_.layer(i), sequence_length);
  return 3.0 * forward;
}

GenerationState Transformer::make_state(const autograd::Context& context, int64_t batch, int64_t capacity) const {
  GenerationState state;
  state.capacity = capacity;
  const Shape shape{batch * capacity, settings_.model.kv_heads() * settings_.model.head_size()};
  for (size_t i = 0; i < layers_.size(); ++i) {
    state.layers.push_back({Tensor::empty(context.allocator, context.dtype, shape),
                            Tensor::empty(context.allocator, context.dtype, shape)});
  }
  return state;
}

}  // namespace cadre::model
