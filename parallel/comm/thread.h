#pragma once
// Ranks as threads of one process: the test workhorse, and what `verify` runs layouts on.
//
// Collectives match by sequence number; the last rank to arrive computes the result for all, in the order of
// reduction.h. A rank whose call differs, that throws, that returns early or that drops unfinished Work fails the
// world: every pending and later call on every rank, on every group, throws CommunicationError with the cause. Waiting
// ranks sleep. Sends match receives per (from, to) pair, in order, and are done when they have met.

#include <chrono>
#include <functional>

#include "parallel/comm/communicator.h"

namespace cadre::parallel {

struct ThreadOptions {
  // How long one wait() may last before the missing ranks are named.
  std::chrono::milliseconds deadline{600'000};
};

class ThreadWorld {
 public:
  explicit ThreadWorld(int ranks, ThreadOptions options = {});

  // Runs `body` once on each rank, each on a thread of its own, and joins them. Throws the error that failed the world
  // first, the one of the rank that caused it. May be called again.
  void run(const std::function<void(Communicator&)>& body) const;

 private:
  int ranks_;
  ThreadOptions options_;
};

}  // namespace cadre::parallel
