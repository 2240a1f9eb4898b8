#pragma once
// Time that a rank waited for others with nothing else to do.

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

struct ExposedTime {
  double seconds = 0;
};

// Waits, and adds how long it took, where that is wanted.
void wait_for(Work& work, ExposedTime* exposed);

}  // namespace cadre::parallel
