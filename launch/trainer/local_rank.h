#pragma once
// A rank that trains without a Session: its own threads and memory, for proofs and measurements whose ranks are threads
// of one process.

#include <memory>

#include "launch/trainer/training.h"

namespace cadre::launch {

struct LocalRankOptions {
  parallel::Layout layout{};
  parallel::Mesh::Wrap wrap{};  // around the mesh's communicators
  Dtype dtype = Dtype::kF32;
  int threads = 1;
  TrainingOptions training{};
};

class LocalRank {
 public:
  // Collective over `world`, which has options.layout.ranks() ranks and must outlive it.
  LocalRank(parallel::Communicator& world, const LocalRankOptions& options)
      : threads_(options.threads),
        context_{{threads_, kernels::best_isa()}, *allocator_, options.dtype},
        mesh_(world, options.layout, options.wrap),
        training_(context_, mesh_, options.training) {}
  LocalRank(const LocalRank&) = delete;
  LocalRank& operator=(const LocalRank&) = delete;

  const autograd::Context& context() const { return context_; }
  parallel::Mesh& mesh() { return mesh_; }
  const ModelShard& shard() const { return training_.shard; }
  TrainState& state() { return training_.state; }
  Trainer& trainer() { return training_.trainer; }

 private:
  ThreadPool threads_;
  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  autograd::Context context_;
  parallel::Mesh mesh_;
  Training training_;
};

}  // namespace cadre::launch
