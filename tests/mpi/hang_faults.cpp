// Hangs on purpose, each of which must end the job with exit code 5 and a report: run one at a time by
// tests/faults/hang.test.sh, as `mpirun -n 4 test_mpi --gtest_also_run_disabled_tests
// --gtest_filter=Hang.DISABLED_...`.

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <thread>

#include "core/error.h"
#include "tests/mpi/world.h"
#include "tests/parallel/comm/group_cases.h"

namespace cadre::parallel {
namespace {

using testing::session;

// Four ranks in two rows; rank 2 is the one that hangs.
void hang(const std::function<void(Communicator& world, Communicator& row)>& body,
          std::chrono::seconds deadline = std::chrono::seconds(2)) {
  session().set_deadline(deadline);
  session().publish_progress(".");
  const auto abort = [](const std::string& text) {
    std::fputs((text + "\n").c_str(), stderr);
    session().abort(static_cast<int>(ExitCode::kCommunication));
  };
  session().on_blocked(abort);
  const auto world = session().world();
  const auto row = world->split(world->rank() / 2, 0, "row");
  row->barrier({"together", 1});
  try {
    body(*world, *row);
  } catch (const TimeoutError& error) {
    if (!error.first()) std::this_thread::sleep_for(std::chrono::seconds(10));
    abort(error.what());
  }
}

TEST(Hang, DISABLED_StoppedInAGroup) {
  hang([](Communicator& world, Communicator& row) {
    std::vector<float> data(100'000);
    row.all_reduce(testing::view_of(data), Reduction::kSum, {"tokens", 5})->wait();
    if (world.rank() == 2) std::raise(SIGSTOP);
    row.all_reduce(testing::view_of(data), Reduction::kSum, {"tokens", 6})->wait();
    world.barrier({"end"});
  });
}

TEST(Hang, DISABLED_ComputesForEver) {
  hang([](Communicator& world, Communicator& row) {
    const std::atomic<bool> ends{false};
    while (world.rank() == 2 && !ends) continue;
    row.barrier({"dispatch", 6});
    world.barrier({"end"});
  });
}

TEST(Hang, DISABLED_StoppedBeforeASplit) {
  hang([](Communicator& world, Communicator&) {
    if (world.rank() == 2) std::raise(SIGSTOP);
    world.split(world.rank() % 2, 0, "column");
  });
}

TEST(Hang, DISABLED_NobodyReceives) {
  hang([](Communicator& world, Communicator& row) {
    std::vector<float> data(1'000'000);
    if (world.rank() == 3) row.send(testing::view_of(data), 0, {"activation", 7})->wait();
    world.barrier({"end"});
  });
}

// With nodes of two ranks: the one that publishes its node's board is the one that is stopped, and another one has
// taken over before the deadline.
TEST(Hang, DISABLED_StoppedOnAnotherNode) {
  ASSERT_TRUE(session().several_nodes());
  hang(
      [](Communicator& world, Communicator& row) {
        if (world.rank() == 2) std::raise(SIGSTOP);
        row.barrier({"dispatch", 6});
        world.barrier({"end"});
      },
      std::chrono::seconds(7));
}

// Stages of a pipeline: each waits for the one before, and the first for the last.
TEST(Hang, DISABLED_StagesThatWaitForEachOther) {
  hang([](Communicator& world, Communicator&) {
    std::vector<float> data(1000);
    const int before = (world.rank() + world.size() - 1) % world.size();
    const int after = (world.rank() + 1) % world.size();
    world.receive(testing::view_of(data), before, {"activation", 2})->wait();
    world.send(testing::view_of(data), after, {"activation", 2})->wait();
  });
}

TEST(Hang, DISABLED_AStageThatComputesForEver) {
  hang([](Communicator& world, Communicator&) {
    std::vector<float> data(1000);
    const std::atomic<bool> ends{false};
    while (world.rank() == 1 && !ends) continue;
    if (world.rank() > 0) world.receive(testing::view_of(data), world.rank() - 1, {"activation", 2})->wait();
    if (world.rank() < 3) world.send(testing::view_of(data), world.rank() + 1, {"activation", 2})->wait();
    world.barrier({"end"});
  });
}

TEST(Hang, DISABLED_StoppedBeforeTheEnd) {
  hang([](Communicator& world, Communicator&) {
    if (world.rank() == 2) std::raise(SIGSTOP);
  });
}

}  // namespace
}  // namespace cadre::parallel
