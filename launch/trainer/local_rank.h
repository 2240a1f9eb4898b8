#pragma once
// A rank that trains without a Session: its own threads and memory, for proofs and measurements whose ranks are threads
// of one process.

#include <memory>

#include "launch/trainer/trainer.h"

namespace cadre::launch {

struct LocalRankOptions {
  parallel::Layout layout{};
  parallel::Mesh::Wrap wrap{};  // around the mesh's communicators
  Dtype dtype = Dtype::kF32;
  int threads = 1;
  model::NetworkSettings network;
  ShardOptions shard{};
  optim::OptimizerSettings optimizer{};
  uint64_t seed = 1;
  TrainerOptions trainer{};
};

class LocalRank {
 public:
  // Collective over `world`, which has options.layout.ranks() ranks and must outlive it.
  LocalRank(parallel::Communicator& world, const LocalRankOptions& options)
      : context_{{threads_of(options), kernels::best_isa()}, *allocator_, options.dtype},
        mesh_(world, options.layout, options.wrap),
        shard_(mesh_, options.network, options.shard),
        state_(context_, options.network, shard_, options.optimizer, options.seed),
        trainer_(context_, state_, mesh_, options.trainer) {}
  LocalRank(const LocalRank&) = delete;
  LocalRank& operator=(const LocalRank&) = delete;

  const autograd::Context& context() const { return context_; }
  parallel::Mesh& mesh() { return mesh_; }
  const ModelShard& shard() const { return shard_; }
  TrainState& state() { return state_; }
  Trainer& trainer() { return trainer_; }

 private:
  ThreadPool& threads_of(const LocalRankOptions& options) {
    threads_ = std::make_unique<ThreadPool>(options.threads);
    return *threads_;
  }

  std::unique_ptr<ThreadPool> threads_;
  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  autograd::Context context_;
  parallel::Mesh mesh_;
  ModelShard shard_;
  TrainState state_;
  Trainer trainer_;
};

}  // namespace cadre::launch
