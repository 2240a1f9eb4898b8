#pragma once
// The reference case of docs/performance.md, ready to train.

#include <memory>

#include "core/rng.h"
#include "launch/session.h"
#include "launch/trainer/trainer.h"

namespace cadre::launch {

Settings peer_settings();

class PeerCase {
 public:
  // The session must outlive it.
  explicit PeerCase(Session& session);

  // One training step on fresh random tokens; returns its wall seconds.
  double step();

  TrainState& state() { return state_; }
  double tokens() const;  // of a step
  double flops();         // of a step's matrix products

 private:
  Settings settings_ = peer_settings();
  std::unique_ptr<parallel::Communicator> self_;
  parallel::Mesh mesh_;
  ModelShard shard_;
  TrainState state_;
  Trainer trainer_;
  Rng rng_{1, RngPurpose::kTest};
};

}  // namespace cadre::launch
