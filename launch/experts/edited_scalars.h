#pragma once
// The small part of a training state (CheckpointHeader::state) after an edit of its experts.

#include <nlohmann/json.hpp>

#include "launch/experts/operation.h"

namespace cadre::launch {

// What is counted by place follows the experts: those that are new have what their recipe's rows had, or begin anew;
// shares are scaled so that their sums stay. Step counts follow the weights.
nlohmann::json edited_scalars(const nlohmann::json& scalars, const model::ExpertLayout& before,
                              const model::ExpertLayout& after, const ExpertEdit& edit);

}  // namespace cadre::launch
