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

  struct Block {
    BlockKind kind;
    int64_t layer = -1;  // the first one of its kind; -1: none
  };
  const std::vector<Block>& blocks() const { return blocks_; }
  const std::vector<size_t>& block_of_layer() const { return block_of_layer_; }
  // Forward and backward of one micro-batch through block `index` of blocks(); gives what it held and used most.
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
  // Ranks of a group that hold an expert of this layer: harmonic mean over those here.
  double expert_copies(int64_t layer) const;
  // The block that a parameter belongs to, as an index.
  size_t block_of(const autograd::Parameter& parameter) const;

 private:
  struct Flight;
  void find_blocks();
  model::ExpertShards make_shards();
  model::StageSpan span_of(const Block& block) const;
  void forward(size_t index, autograd::Tape& tape, Flight& flight);
  int64_t in_use() const { return static_cast<int64_t>(context_.allocator.stats().in_use); }
  int64_t peak() const { return static_cast<int64_t>(context_.allocator.stats().peak); }
  model::TokenBatch tokens() const;
  Tensor stream() const;
  Tensor zeros(Dtype dtype, Shape shape) const;

  ProfileShape shape_;
  autograd::Profiler profiler_;
  parallel::Traffic traffic_;
  std::unique_ptr<parallel::Communicator> group_;
  int rank_ = 0;  // of the group: the one with the most experts
  autograd::Context context_;
  autograd::ParameterStore store_;
  model::ExpertLayout experts_;
  std::vector<Block> blocks_;
  std::vector<size_t> block_of_layer_;
  std::unique_ptr<model::Transformer> model_;
  std::vector<model::LayerControls> controls_;
};

}  // namespace cadre::launch
