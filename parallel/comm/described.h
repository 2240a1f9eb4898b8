#pragma once
// One rank of a group that is only described: for dry runs (kernels/exec.h) of layouts that nobody started.

#include <memory>
#include <string>

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

// Every call is over at once. Integers come out as if all ranks had given the same, so that what is planned on counts
// is planned for an even load; floating-point data is not touched. `name` is the axis.
std::unique_ptr<Communicator> make_described_communicator(int rank, int size, const std::string& name);

}  // namespace cadre::parallel
