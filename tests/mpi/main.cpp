// Runs under mpirun on every rank: one session for all tests; a failure on any rank fails the job.

#include <gtest/gtest.h>

#include <cstdio>

#include "tests/mpi/world.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  cadre::parallel::MpiSession session(cadre::parallel::Launcher::kMpirun);
  cadre::parallel::testing::session_slot() = &session;
  if (session.world()->rank() != 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  return RUN_ALL_TESTS();
}
