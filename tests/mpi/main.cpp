// Runs under mpirun on every rank: one session for all tests; a failure on any rank fails the job.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "tests/mpi/world.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  // `--ranks-per-node N` pretends several nodes.
  cadre::parallel::SessionOptions options;
  if (argc == 3 && std::string_view(argv[1]) == "--ranks-per-node") options.ranks_per_node = std::atoi(argv[2]);
  cadre::parallel::MpiSession session(cadre::parallel::Launcher::kMpirun, options);
  cadre::parallel::testing::session_slot() = &session;
  if (session.world()->rank() != 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  return RUN_ALL_TESTS();
}
