#pragma once
// Runs one block of a model by itself.

#include <memory>
#include <vector>

#include "autograd/profiler.h"
#include "autograd/tape.h"
#include "launch/plan/profile.h"
#include "model/transformer.h"

namespace cadre::launch {

class BlockRunner {
 public:
  // `exec` may be dry. The allocator must outlive the runner.
  BlockRunner(const model::NetworkSettings& network, const ProfileShape& shape, const kernels::Exec& exec,
              Allocator& allocator);

  const std::vector<BlockKind>& kinds() const { return kinds_; }
  // Forward and backward of one micro-batch through block `index` of kinds(); gives what it held and used most.
  // `split`: the backward in two parts.
  struct Memory {
    int64_t kept = 0, deferred = 0, forward_peak = 0, backward_peak = 0;
  };
  Memory run(size_t index, bool split = false);
  // What a step does to parameters: gradients are empty, packed forms stale.
  void start_step();

  autograd::Profiler& profiler() { return profiler_; }
  parallel::Traffic& traffic() { return traffic_; }
  const autograd::ParameterStore& store() const { return store_; }
  double expert_copies() const { return expert_copies_; }
  // The block that a parameter belongs to, as an index.
  size_t block_of(const autograd::Parameter& parameter) const;

 private:
  struct Flight;
  void forward(size_t index, autograd::Tape& tape, Flight& flight);
  int64_t in_use() const { return static_cast<int64_t>(context_.allocator.stats().in_use); }
  int64_t peak() const { return static_cast<int64_t>(context_.allocator.stats().peak); }
  model::TokenBatch tokens() const;
  Tensor stream() const;
  Tensor zeros(Dtype dtype, Shape shape) const;

  ProfileShape shape_;
  double expert_copies_ = 1;
  autograd::Profiler profiler_;
  parallel::Traffic traffic_;
  std::unique_ptr<parallel::Communicator> group_;
  autograd::Context context_;
  autograd::ParameterStore store_;
  std::vector<BlockKind> kinds_;
  std::unique_ptr<model::Transformer> model_;
  std::vector<Tensor> fractions_;
};

}  // namespace cadre::launch
