#pragma once
// What trains on one rank: its part of the model, the state, and the steps.

#include "launch/trainer/trainer.h"

namespace cadre::launch {

struct TrainingOptions {
  model::NetworkSettings network;
  ShardOptions shard{};
  optim::OptimizerSettings optimizer{};
  uint64_t seed = 1;
  TrainerOptions trainer{};
};

struct Training {
  // Collective. Context and mesh must outlive it.
  Training(const autograd::Context& context, parallel::Mesh& mesh, const TrainingOptions& options)
      : shard(mesh, options.network, options.shard),
        state(context, options.network, shard, options.optimizer, options.seed),
        trainer(context, state, mesh, options.trainer) {}
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  ModelShard shard;
  TrainState state;
  Trainer trainer;
};

}  // namespace cadre::launch
