#pragma once
// A transformer small enough for finite differences, with everything it runs on.

#include <functional>
#include <memory>
#include <vector>

#include "kernels/exec.h"
#include "model/transformer.h"
#include "tests/autograd/poison_allocator.h"

namespace cadre::model::testing {

struct Extents {
  int64_t batch = 2;
  int64_t length = 7;
  uint64_t stream = 0;  // of the tokens drawn
};

// Loss, gradients and routing of one training step.
struct StepResult {
  double cross_entropy = 0, balance = 0, z = 0;
  std::vector<double> gradients;  // laid out as the store
  RoutingTrace trace;
  std::vector<RoutingResult> routing;
  size_t peak = 0;  // bytes above what was in use before
  double total() const { return cross_entropy + balance + z; }
};

class TinyModel {
 public:
  explicit TinyModel(NetworkSettings settings, Dtype dtype = Dtype::kF64, Extents extents = {}, int threads = 1,
                     kernels::Isa isa = kernels::best_isa());
  // A rank of an expert group, with the experts of its shard.
  TinyModel(NetworkSettings settings, const ExpertShard& shard, Dtype dtype, Extents extents);

  // Forward and, unless told otherwise, backward on the model's own tokens and targets.
  StepResult step(const RoutingTrace* replay = nullptr, const std::vector<LayerControls>* controls = nullptr,
                  bool backward = true);
  // Other tokens and targets.
  void draw(Extents extents);
  // Forward and backward on them, adding to the gradients; `ready` as Tape::on_parameter_ready.
  void accumulate(const std::function<void(autograd::Parameter&)>& ready);
  // Logits as f64, without history.
  std::vector<double> logits(const TokenBatch& batch, GenerationState* state = nullptr);
  StepResult evaluate();  // training = false
  ForwardOptions training_options() const;

  Tensor tensor_of(const std::vector<int64_t>& values);  // i32
  TokenBatch tokens_of(const std::vector<int64_t>& tokens, int64_t batch = 1, int64_t past = 0);
  double value(int64_t i) const;
  void set_value(int64_t i, double value);

  autograd::testing::PoisonAllocator allocator;
  ThreadPool threads;
  autograd::Context context;
  autograd::ParameterStore store;
  std::unique_ptr<Transformer> transformer;
  TokenBatch batch;
  Tensor targets;
  int64_t target_count = 0;
  autograd::BackwardPart part = autograd::BackwardPart::kAll;

 private:
  TinyModel(Dtype dtype, int threads, kernels::Isa isa);
  std::vector<autograd::Tape::Seed> seeds_of(autograd::Tape& tape, TransformerOutput output, StepResult& result);
};

// Two MoE layers of four experts, grouped queries, QK-norm, a shared expert; weights large enough to matter.
NetworkSettings tiny_settings();

}  // namespace cadre::model::testing
