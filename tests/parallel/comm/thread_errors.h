#pragma once
// What ranks throw.

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "parallel/comm/thread.h"

namespace cadre::parallel::testing {

// What every rank's body threw, by rank; empty when it did not. The world must fail.
inline std::vector<std::string> errors_of(int ranks, const std::function<void(Communicator&)>& body,
                                          std::chrono::milliseconds deadline = std::chrono::minutes(10)) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  EXPECT_THROW(ThreadWorld(ranks, {.deadline = deadline}).run([&](Communicator& comm) {
    try {
      body(comm);
    } catch (const std::exception& error) {
      errors[static_cast<size_t>(comm.rank())] = error.what();
      throw;
    }
  }),
               std::exception);
  return errors;
}

}  // namespace cadre::parallel::testing
