#pragma once
// One rank alone: every collective is the identity (a copy where send and receive are different buffers).

#include <memory>

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

// send and receive throw InternalError (there is no other rank); abort throws Error with the exit code.
std::unique_ptr<Communicator> make_self_communicator();

}  // namespace cadre::parallel
