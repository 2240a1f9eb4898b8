#pragma once
// A training state goes on with experts elsewhere: weights and optimizer state move between ranks, by name.

#include "launch/trainer/train_state.h"

namespace cadre::launch {

// `to` becomes what `from` is: same model, mesh, stages and ZeRO stage, but another placement of experts. Each old
// owner sends what it owns to those that need it, a layer at a time, in one all-to-all along data. Exact. Collective.
void move_state(TrainState& from, TrainState& to);

}  // namespace cadre::launch
