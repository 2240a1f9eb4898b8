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

int fullest_rank(const parallel::Placement& placement) {
  int fullest = 0;
  for (int rank = 1; rank < placement.ranks(); ++rank) {
    if (placement.held_by(rank).size() > placement.held_by(fullest).size()) fullest = rank;
  }
  return fullest;
}

model::StageSpan span_of(BlockKind kind, const model::NetworkSettings& network) {
  const int64_t layers = network.model.num_layers, first_moe = network.moe.dense_layers;
  switch (kind) {
    case BlockKind::kEmbedding: return {0, 0, true, false};
    case BlockKind::kDenseLayer: return {0, 1, false, false};
    case BlockKind::kMoeLayer: return {first_moe, first_moe + 1, false, false};
    case BlockKind::kHead: break;
  }
  return {layers, layers, false, true};
}

std::vector<BlockKind> kinds_of(const model::NetworkSettings& network) {
  std::vector<BlockKind> kinds{BlockKind::kEmbedding};
  if (!network.is_moe(0)) kinds.push_back(BlockKind::kDenseLayer);
  if (network.is_moe(network.model.num_layers - 1)) kinds.push_back(BlockKind::kMoeLayer);
  kinds.push_back(BlockKind::kHead);
  return kinds;
}

}  // namespace

// A block between its forward and its backward.
struct BlockRunner::Flight {
  Variable input, output;  // empty at the ends of the model
  std::vector<Tape::Seed> losses;
};

BlockRunner::BlockRunner(const model::NetworkSettings& network, const ProfileShape& shape, const kernels::Exec& exec,
                         Allocator& allocator)
    : shape_(shape), context_{exec, allocator, shape.dtype, &profiler_}, kinds_(kinds_of(network)) {
  const int64_t experts = network.moe.num_experts;
  model::ExpertShard shard = model::ExpertShard::whole(experts);
  if (shape.placement && shape.placement->ranks() > 1) {
    const parallel::Placement& placement = *shape.placement;
    const int rank = fullest_rank(placement);
    group_ = parallel::make_metered_communicator(
        parallel::make_described_communicator(rank, placement.ranks(), "expert"), traffic_);
    shard = {placement.held_by(rank), parallel::make_group_dispatcher(*group_, placement, shape.dispatch)};
    double parts = 0;
    for (const int64_t expert : shard.held) parts += 1.0 / static_cast<double>(placement.holders(expert).size());
    if (!shard.held.empty()) expert_copies_ = static_cast<double>(shard.held.size()) / parts;
  }
  std::vector<model::StageSpan> spans;
  for (const BlockKind kind : kinds_) spans.push_back(span_of(kind, network));
  model_ = std::make_unique<model::Transformer>(store_, network, shard, std::move(spans));
  store_.materialise(context_, 1);
  if (network.moe.balance.scope == model::BalanceScope::kGlobalBatch && experts > 0) {
    fractions_.push_back(zeros(Dtype::kF64, Shape{experts}));
  }
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
  BlockKind kind = BlockKind::kHead;
  if (parameter.name == model::kEmbeddingName) kind = BlockKind::kEmbedding;
  if (parameter.name.starts_with("layers.")) {
    const int64_t layer = std::stoll(parameter.name.substr(7));
    kind = model_->settings().is_moe(layer) ? BlockKind::kMoeLayer : BlockKind::kDenseLayer;
  }
  return static_cast<size_t>(std::find(kinds_.begin(), kinds_.end(), kind) - kinds_.begin());
}

void BlockRunner::start_step() {
  store_.clear_gradients();
  store_.touch();
}

void BlockRunner::forward(size_t index, Tape& tape, Flight& flight) {
  const auto global_tokens = static_cast<double>(shape_.sequences * shape_.seq_length);
  const bool has_input = kinds_[index] != BlockKind::kEmbedding;
  if (has_input) flight.input = Variable::leaf(stream(), /*requires_gradient=*/true);
  model::ForwardInputs inputs;
  inputs.options.global_tokens = global_tokens;
  inputs.fractions = fractions_.empty() ? nullptr : &fractions_;
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
    flight.losses.push_back(tape.seed(routing.balance_loss));
    flight.losses.push_back(tape.seed(routing.z_loss));
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
