#include "launch/plan/block_runner.h"

#include <algorithm>
#include <utility>

#include "autograd/ops/cross_entropy.h"
#include "core/rng.h"
#include "parallel/comm/described.h"

namespace cadre::launch {
namespace {

using autograd::Tape;
using autograd::Variable;

// Over all layers.
int fullest_rank(const std::vector<parallel::Placement>& placements) {
  const auto held = [&](int rank) {
    size_t experts = 0;
    for (const parallel::Placement& layer : placements) experts += layer.held_by(rank).size();
    return experts;
  };
  int fullest = 0;
  for (int rank = 1; rank < placements.front().ranks(); ++rank) {
    if (held(rank) > held(fullest)) fullest = rank;
  }
  return fullest;
}

}  // namespace

// A block between its forward and its backward.
struct BlockRunner::Flight {
  Variable input, output;  // empty at the ends of the model
  std::vector<Tape::Seed> losses;
};

BlockRunner::BlockRunner(const model::NetworkSettings& network, const ProfileShape& shape, const kernels::Exec& exec,
                         Allocator& allocator)
    : shape_(shape), context_{exec, allocator, shape.dtype, &profiler_}, experts_(network) {
  find_blocks();
  std::vector<model::StageSpan> spans;
  for (const Block& block : blocks_) spans.push_back(span_of(block));
  model_ = std::make_unique<model::Transformer>(store_, network, make_shards(), std::move(spans));
  store_.materialise(context_, 1);
  controls_ = model::first_controls(allocator, experts_, network.moe.router);
}

void BlockRunner::find_blocks() {
  blocks_.push_back({BlockKind::kEmbedding});
  const std::vector<size_t> classes = experts_.classes();
  for (size_t layer = 0; layer < classes.size(); ++layer) {
    const auto index = static_cast<int64_t>(layer);
    if (classes[layer] + 1 == blocks_.size()) {
      blocks_.push_back({experts_.is_moe(index) ? BlockKind::kMoeLayer : BlockKind::kDenseLayer, index});
    }
    block_of_layer_.push_back(classes[layer] + 1);
  }
  blocks_.push_back({BlockKind::kHead});
}

model::ExpertShards BlockRunner::make_shards() {
  if (shape_.placements.empty() || shape_.placements.front().ranks() == 1) return model::ExpertShards::whole(experts_);
  const int ranks = shape_.placements.front().ranks();
  rank_ = fullest_rank(shape_.placements);
  group_ = parallel::make_metered_communicator(parallel::make_described_communicator(rank_, ranks, "expert"), traffic_);
  std::vector<model::ExpertShard> shards;
  for (const parallel::Placement& placement : shape_.placements) {
    shards.push_back({placement.held_by(rank_), parallel::make_group_dispatcher(*group_, placement, shape_.dispatch)});
  }
  return model::ExpertShards(std::move(shards));
}

model::StageSpan BlockRunner::span_of(const Block& block) const {
  if (block.kind == BlockKind::kEmbedding) return {0, 0, true, false};
  if (block.kind == BlockKind::kHead) return {experts_.layers(), experts_.layers(), false, true};
  return {block.layer, block.layer + 1, false, false};
}

double BlockRunner::expert_copies(int64_t layer) const {
  if (!group_) return 1;
  const parallel::Placement& placement = shape_.placements[static_cast<size_t>(layer)];
  double parts = 0;
  const std::vector<int64_t>& held = placement.held_by(rank_);
  for (const int64_t expert : held) parts += 1.0 / static_cast<double>(placement.holders(expert).size());
  return held.empty() ? 1 : static_cast<double>(held.size()) / parts;
}

Tensor BlockRunner::zeros(Dtype dtype, Shape shape) const { return Tensor::zeros(context_.allocator, dtype, shape); }

// In earnest random, so that tokens choose different experts.
Tensor BlockRunner::stream() const {
  const Shape shape{shape_.sequences * shape_.seq_length, model_->settings().model.hidden_size};
  Tensor stream = Tensor::empty(context_.allocator, context_.dtype, shape);
  Rng rng(1, RngPurpose::kTest);
  for (int64_t i = 0; i < stream.elements() && !context_.exec.dry; ++i) {
    const double value = rng.uniform() - 0.5;
    if (context_.dtype == Dtype::kF64) {
      stream.data<double>()[i] = value;
    } else {
      stream.data<float>()[i] = static_cast<float>(value);
    }
  }
  return stream;
}

model::TokenBatch BlockRunner::tokens() const {
  model::TokenBatch batch;
  batch.batch = shape_.sequences;
  batch.length = shape_.seq_length;
  const Shape rows{batch.batch * batch.length};
  batch.tokens = zeros(Dtype::kI32, rows);
  const int64_t vocabulary = *model_->settings().model.vocab_size.value;
  for (int64_t i = 0; i < rows[0]; ++i) batch.tokens.data<int32_t>()[i] = static_cast<int32_t>(i * 7919 % vocabulary);
  if (shape_.reset_at_documents) batch.segment_start = zeros(Dtype::kI32, rows);
  return batch;
}

size_t BlockRunner::block_of(const autograd::Parameter& parameter) const {
  if (parameter.name == model::kEmbeddingName) return 0;
  if (!parameter.name.starts_with("layers.")) return blocks_.size() - 1;
  return block_of_layer_[static_cast<size_t>(std::stoll(parameter.name.substr(7)))];
}

void BlockRunner::start_step() {
  store_.clear_gradients();
  store_.touch();
}

void BlockRunner::forward(size_t index, Tape& tape, Flight& flight) {
  const auto global_tokens = static_cast<double>(shape_.sequences * shape_.seq_length);
  const bool has_input = blocks_[index].kind != BlockKind::kEmbedding;
  if (has_input) flight.input = Variable::leaf(stream(), /*requires_gradient=*/true);
  model::ForwardInputs inputs;
  inputs.options.global_tokens = global_tokens;
  inputs.controls = &controls_;
  inputs.stage = index;
  inputs.stream = flight.input;
  const model::TokenBatch batch = tokens();
  model::TransformerOutput output = model_->forward(tape, batch, inputs);
  if (output.logits) {
    const Variable targets = Variable::leaf(batch.tokens);
    const Variable loss = tape.apply<autograd::CrossEntropy>({std::move(output.logits), targets}, 1.0 / global_tokens);
    flight.losses.push_back(tape.seed(loss));
  }
  for (const model::RoutingResult& routing : output.routing) {
    for (const autograd::Variable& loss : routing.losses()) flight.losses.push_back(tape.seed(loss));
  }
  flight.output = std::move(output.stream);
}

BlockRunner::Memory BlockRunner::run(size_t index, bool split) {
  Memory memory;
  Allocator& allocator = context_.allocator;
  const int64_t before = in_use();
  allocator.reset_peak();
  Tape tape(context_);
  Flight flight;
  forward(index, tape, flight);
  // The next block's input, and counted there; what it held of this block's tape is counted here.
  const Variable output = std::exchange(flight.output, {});
  const int64_t passed_on = output ? static_cast<int64_t>(size_class(output.tensor().bytes())) : 0;
  memory.kept = in_use() - before - passed_on;
  memory.forward_peak = peak() - before - memory.kept;
  const int64_t held = in_use();
  allocator.reset_peak();
  if (output) flight.losses.push_back({output, stream()});
  if (split) {
    tape.backward(std::move(flight.losses), autograd::BackwardPart::kInputsOnly);
    flight.input = Variable();
    memory.deferred = in_use() - before - passed_on;
    tape.backward_parameters();
  } else {
    tape.backward(std::move(flight.losses));
  }
  memory.backward_peak = peak() - held;
  return memory;
}

}  // namespace cadre::launch
