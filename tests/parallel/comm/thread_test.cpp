#include "parallel/comm/thread.h"

#include <array>
#include <atomic>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "tests/parallel/comm/collective_cases.h"
#include "tests/parallel/comm/thread_errors.h"

namespace cadre::parallel {
namespace {

using testing::errors_of;
using testing::view_of;

class Thread : public ::testing::TestWithParam<int> {};

TEST_P(Thread, DoesEveryCollective) {
  ThreadWorld(GetParam()).run([](Communicator& comm) {
    testing::check_all(comm, {0, 1, 7, 1025});
    testing::check_send_receive(comm, 33);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Thread, ::testing::Values(1, 2, 3, 5));

constexpr std::chrono::minutes kLong{10};

TEST(Thread, DifferentCallsFailOnEveryRankNamingBoth) {
  const auto expect_both = [](auto body, const std::string& first, const std::string& second) {
    for (const std::string& error : errors_of(3, body, kLong)) {
      EXPECT_NE(error.find(first), std::string::npos) << error;
      EXPECT_NE(error.find(second), std::string::npos) << error;
    }
  };
  expect_both(
      [](Communicator& comm) {
        std::vector<float> data(comm.rank() == 1 ? 9 : 8);
        comm.all_reduce(view_of(data), Reduction::kSum, {"counts", 2})->wait();
        comm.barrier({"later"});
      },
      "all_reduce(sum) \"counts\" #0 of world, layer 2, f32 x 9", "f32 x 8");
  expect_both(
      [](Communicator& comm) {
        std::vector<float> data(8);
        comm.all_reduce(view_of(data), comm.rank() == 1 ? Reduction::kMax : Reduction::kSum, {"reductions"})->wait();
      },
      "all_reduce(max)", "all_reduce(sum)");
  expect_both(
      [](Communicator& comm) {
        std::vector<float> floats(8);
        std::vector<double> doubles(8);
        comm.broadcast(comm.rank() == 1 ? view_of(doubles) : view_of(floats), 0, {"dtypes"})->wait();
      },
      "f64 x 8", "f32 x 8");
  expect_both([](Communicator& comm) { comm.barrier({comm.rank() == 1 ? "left" : "right"}); }, "\"left\"", "\"right\"");
  expect_both(
      [](Communicator& comm) {
        std::vector<float> data(8);
        if (comm.rank() == 1) comm.barrier({"op"});
        comm.all_reduce(view_of(data), Reduction::kSum, {"op"})->wait();
      },
      "barrier", "all_reduce");
}

TEST(Thread, RowCountsThatDisagreeAreNamed) {
  const auto errors = errors_of(
      2,
      [](Communicator& comm) {
        std::vector<float> send(8);
        std::vector<float> receive(8);
        std::vector<int64_t> rows = {1, 1};
        std::vector<int64_t> expected = {1, comm.rank() == 0 ? 2 : 1};
        comm.all_to_all(view_of(send), rows, view_of(receive), expected, {"tokens"})->wait();
      },
      kLong);
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("rank 1 sends 1 rows to rank 0, which expects 2"), std::string::npos) << error;
  }
}

TEST(Thread, AFailingRankFailsTheOthersAndItsErrorIsRethrown) {
  std::vector<std::string> errors(4);
  const auto body = [&](Communicator& comm) {
    std::vector<float> data(8);
    const WorkPtr pending = comm.all_reduce(view_of(data), Reduction::kSum, {"first"});
    pending->wait();
    try {
      const WorkPtr never = comm.rank() < 3 ? comm.all_reduce(view_of(data), Reduction::kSum, {"second"})
                                            : comm.receive(view_of(data), 2, {"never"});
      if (comm.rank() == 2) throw DataError("token file is gone");
      never->wait();
    } catch (const CommunicationError& error) {
      errors[static_cast<size_t>(comm.rank())] = error.what();
      throw;
    }
  };
  EXPECT_THROW(ThreadWorld(4).run(body), DataError);
  for (const int rank : {0, 1, 3}) {
    EXPECT_NE(errors[static_cast<size_t>(rank)].find("rank 2"), std::string::npos) << errors[static_cast<size_t>(rank)];
  }
}

TEST(Thread, ARankThatReturnsEarlyIsNamed) {
  const auto errors = errors_of(
      3,
      [](Communicator& comm) {
        if (comm.rank() != 1) comm.barrier({"epoch"});
      },
      kLong);
  EXPECT_NE(errors[0].find("rank 1 ended without joining barrier \"epoch\""), std::string::npos) << errors[0];
  EXPECT_NE(errors[2].find("rank 1 ended without joining barrier \"epoch\""), std::string::npos) << errors[2];
  const auto receivers = errors_of(
      2,
      [](Communicator& comm) {
        std::vector<float> data(1);
        if (comm.rank() == 0) comm.receive(view_of(data), 1, {"activation"})->wait();
      },
      kLong);
  EXPECT_NE(receivers[0].find("rank 1 ended"), std::string::npos) << receivers[0];
}

TEST(Thread, DroppedWorkFailsTheWorld) {
  const auto errors = errors_of(
      2,
      [](Communicator& comm) {
        std::vector<float> data(4);
        if (comm.rank() == 0) {
          comm.all_reduce(view_of(data), Reduction::kSum, {"dropped"}).reset();
        } else {
          comm.barrier({"x"});
        }
        comm.barrier({"y"});
      },
      kLong);
  EXPECT_FALSE(errors[0].empty());
  EXPECT_FALSE(errors[1].empty());
}

TEST(Thread, TheDeadlineNamesTheMissingRanks) {
  std::atomic<bool> release{false};
  std::atomic<int> arrived{0};
  const auto errors = errors_of(
      4,
      [&](Communicator& comm) {
        if (comm.rank() == 1 || comm.rank() == 3) {
          while (!release) std::this_thread::yield();
        }
        std::vector<float> data(4);
        const WorkPtr work = comm.all_reduce(view_of(data), Reduction::kSum, {"gradients", 7});
        for (++arrived; arrived < 2;) std::this_thread::yield();
        try {
          work->wait();
        } catch (...) {
          release = true;
          throw;
        }
      },
      std::chrono::milliseconds(50));
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("all_reduce(sum) \"gradients\" #0 of world, layer 7"), std::string::npos) << error;
    EXPECT_NE(error.find("not arrived: rank 1 and 3"), std::string::npos) << error;
  }
}

TEST(Thread, WorkIsNotDoneBeforeAllHaveArrived) {
  ThreadWorld(2).run([](Communicator& comm) {
    std::vector<float> data = {1.0F + static_cast<float>(comm.rank())};
    if (comm.rank() == 0) {
      const WorkPtr work = comm.all_reduce(view_of(data), Reduction::kSum, {"x"});
      EXPECT_FALSE(work->done());
      std::vector<float> token(1);
      comm.send(view_of(token), 1, {"go"})->wait();
      work->wait();
      EXPECT_TRUE(work->done());
    } else {
      std::vector<float> token(1);
      comm.receive(view_of(token), 0, {"go"})->wait();
      comm.all_reduce(view_of(data), Reduction::kSum, {"x"})->wait();
    }
    EXPECT_EQ(data[0], 3.0F);
  });
}

TEST(Thread, AbortEndsAllRanksWithTheCode) {
  try {
    ThreadWorld(3).run([](Communicator& comm) {
      if (comm.rank() == 1) comm.abort(7);
      comm.barrier({"x"});
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDivergence);
    EXPECT_NE(std::string(error.what()).find("rank 1"), std::string::npos);
  }
}

TEST(Thread, AWorldCanRunAgainAfterAFailure) {
  const ThreadWorld world(2);
  EXPECT_THROW(world.run([](Communicator&) { throw DataError("x"); }), DataError);
  int sum = 0;
  std::mutex mutex;
  world.run([&](Communicator& comm) {
    comm.barrier({"x"});
    std::lock_guard lock(mutex);
    sum += comm.rank() + 1;
  });
  EXPECT_EQ(sum, 3);
}

}  // namespace
}  // namespace cadre::parallel
