#pragma once
// One rank alone: every collective is the identity (a copy where send and receive are different buffers).

#include <functional>
#include <memory>

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

// send and receive throw InternalError (there is no other rank); abort throws Error with the exit code.
std::unique_ptr<Communicator> make_self_communicator();

// What a group of one rank among others leaves to the world that it is part of.
struct SelfOptions {
  GroupPtr group;
  std::function<void()> poll;           // moves other communicators on; may be empty
  std::function<void(int)> abort = {};  // does not return; empty: as above
};
std::unique_ptr<Communicator> make_self_communicator(SelfOptions options);

}  // namespace cadre::parallel
