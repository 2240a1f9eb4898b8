#pragma once
// The experts of a layer that this rank holds, and the way to the others.

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/expert/dispatcher.h"

namespace cadre::model {

struct ExpertShard {
  std::vector<int64_t> held;  // global ids, ascending
  std::shared_ptr<const parallel::Dispatcher> dispatcher;

  // All experts on one rank.
  static ExpertShard whole(int64_t experts);
};

}  // namespace cadre::model
