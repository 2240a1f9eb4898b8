#pragma once
// Everything that training changes and that a checkpoint holds: weights, optimizer, router controls, position.

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "autograd/parameter_store.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/state.h"
#include "launch/trainer/expert_history.h"
#include "launch/trainer/model_shard.h"
#include "launch/trainer/sharded_norm.h"
#include "model/transformer.h"
#include "optim/optimizer.h"

namespace cadre::launch {

class TrainState {
 public:
  // Initialised from the seed. `network` has its vocabulary size. `shard` must outlive the state.
  TrainState(const autograd::Context& context, const model::NetworkSettings& network, const ModelShard& shard,
             const optim::OptimizerSettings& optimizer, uint64_t seed);

  const ModelShard& shard() const { return shard_; }
  autograd::ParameterStore& store() { return store_; }
  model::Transformer& model() { return model_; }
  const model::Transformer& model() const { return model_; }
  const optim::ExpertRules& rules() const { return rules_; }
  uint64_t seed() const { return seed_; }
  optim::Optimizer& optimizer() { return optimizer_; }

  int64_t step = 0;  // finished steps
  // By MoE layer: what the last step left for the next one's routing, fractions, loads and biases.
  std::vector<model::LayerControls> controls;
  ExpertHistory& history() { return history_; }
  const ExpertHistory& history() const { return history_; }

  // "/model/<segment>" and "/optimizer/<segment>/<tensor>", views into live storage: what this rank owns; over all
  // ranks, everything once.
  std::vector<StateEntry> entries_to_save() const;
  // Of the whole model. Collective.
  nlohmann::json scalars();
  // What isolated experts have, and the checkpoint has not, begins anew.
  void restore(CheckpointReader& reader);
  // What scalars() gave; `where` is for errors.
  void restore_scalars(const nlohmann::json& scalars, const std::string& where);

 private:
  // The model chooses experts by them without controls, too.
  void share_biases();
  void restore_isolated(CheckpointReader& reader);
  std::vector<int64_t> snapshot_steps();

  const autograd::Context& context_;
  const ModelShard& shard_;
  uint64_t seed_;
  ShardedNorm norm_;
  autograd::ParameterStore store_;
  model::Transformer model_;
  ExpertHistory history_;
  optim::ExpertRules rules_;
  optim::Optimizer optimizer_;
};

// Those that scalars() saved, for evaluation and generation.
void read_biases(const nlohmann::json& scalars, const autograd::Context& context, model::Transformer& model);

// The "/model/..." entries of a store, for evaluation and generation too.
std::vector<StateEntry> model_entries(const autograd::ParameterStore& store);

}  // namespace cadre::launch
