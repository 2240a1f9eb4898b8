#include "parallel/comm/group.h"

#include <atomic>
#include <thread>

#include "parallel/comm/self.h"
#include "parallel/comm/thread.h"
#include "tests/parallel/comm/group_cases.h"
#include "tests/parallel/comm/thread_errors.h"

namespace cadre::parallel {
namespace {

using testing::errors_of;
using testing::view_of;

class ThreadGroups : public ::testing::TestWithParam<int> {};

TEST_P(ThreadGroups, DoEveryCollective) {
  ThreadWorld(GetParam()).run([](Communicator& comm) { testing::check_all_groups(comm); });
}

INSTANTIATE_TEST_SUITE_P(Ranks, ThreadGroups, ::testing::Range(1, 9));

TEST(Groups, OfOneRankAloneAreThatRank) {
  const auto comm = make_self_communicator();
  testing::check_all_groups(*comm);
  EXPECT_EQ(comm->split(-1, 0, "none"), nullptr);
  EXPECT_EQ(comm->split(2, 0, "data")->group().name, "data");
}

TEST(Groups, AKeyIsTheSameOnEveryMemberAndNowhereElse) {
  const Group world{.name = "world", .key = 1, .members = {0, 1, 2, 3}};
  const std::vector<SplitWish> wishes = {{0, 0, "a"}, {1, 0, "a"}, {0, 0, "a"}, {1, 0, "a"}};
  const auto key = [&](int64_t ordinal, int rank) { return form_group(world, ordinal, wishes, rank)->key; };
  EXPECT_EQ(key(0, 0), key(0, 2));
  EXPECT_NE(key(0, 0), key(0, 1));
  EXPECT_NE(key(0, 0), key(1, 0));
}

TEST(Groups, WishesSurviveTheWire) {
  const SplitWish wish = decode_wish(encode({-3, -7, "expert data"}));
  EXPECT_EQ(wish.color, -3);
  EXPECT_EQ(wish.key, -7);
  EXPECT_EQ(wish.name, "expert data");
}

TEST(Groups, DifferentNamesAreRefusedByAll) {
  const auto errors = errors_of(4, [](Communicator& comm) { comm.split(0, 0, comm.rank() == 2 ? "data" : "expert"); });
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("rank 0 names color 0 \"expert\", rank 2 names it \"data\""), std::string::npos) << error;
  }
}

TEST(Groups, DifferentCallsFailOnEveryRankOfTheWorldNamingBoth) {
  const auto by_count = errors_of(4, [](Communicator& comm) {
    const auto group = comm.split(comm.rank() / 2, 0, "expert");
    std::vector<float> data(comm.rank() == 3 ? 9 : 8);
    group->all_reduce(view_of(data), Reduction::kSum, {"tokens", 2})->wait();
    comm.barrier({"end"});
  });
  for (const std::string& error : by_count) {
    EXPECT_NE(error.find("rank 3 called all_reduce(sum) \"tokens\" #0 of "
                         "expert, layer 2, f32 x 9"),
              std::string::npos);
    EXPECT_NE(error.find("rank 2 called all_reduce(sum) \"tokens\" #0 of "
                         "expert, layer 2, f32 x 8"),
              std::string::npos);
  }
  const auto by_order = errors_of(4, [](Communicator& comm) {
    const auto group = comm.split(comm.rank() / 2, 0, "expert");
    std::vector<float> data(8);
    if (comm.rank() == 3) group->barrier({"late"});
    group->all_reduce(view_of(data), Reduction::kSum, {"tokens"})->wait();
    if (comm.rank() != 3) group->barrier({"late"});
    comm.barrier({"end"});
  });
  for (const std::string& error : by_order) {
    EXPECT_NE(error.find("barrier \"late\" #0 of expert"), std::string::npos) << error;
    EXPECT_NE(error.find("all_reduce(sum) \"tokens\" #0 of expert"), std::string::npos) << error;
  }
}

TEST(Groups, AFailureInOneEndsTheWaitsInOthers) {
  const auto errors = errors_of(6, [](Communicator& comm) {
    const auto group = comm.split(comm.rank() / 2, 0, "expert");
    if (comm.rank() == 5) throw DataError("token file is gone");
    comm.barrier({"epoch"});
  });
  for (int rank = 0; rank < 5; ++rank) {
    EXPECT_EQ(errors[static_cast<size_t>(rank)], "rank 5 failed: token file is gone");
  }
}

// Rank 2 hangs outside of any collective; rank 3 waits for it in the group, and the others in the world for rank 3.
TEST(Groups, TheDeadlineReportsEveryRank) {
  std::atomic<bool> release{false};
  const auto errors = errors_of(
      4,
      [&](Communicator& comm) {
        const auto group = comm.split(comm.rank() / 2, 0, "expert");
        group->barrier({"before", 1});
        try {
          if (comm.rank() == 2) {
            while (!release) std::this_thread::yield();
          }
          if (comm.rank() == 3) group->barrier({"stuck", 4});
          comm.barrier({"end"});
        } catch (const TimeoutError&) {
          release = true;
          throw;
        }
      },
      std::chrono::milliseconds(200));
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("the job waits for rank 2\n"), std::string::npos) << error;
    EXPECT_NE(error.find("  rank 2: outside of collectives for "), std::string::npos) << error;
    EXPECT_NE(error.find("last entered: barrier \"before\" #0 of "
                         "expert, layer 1, finished"),
              std::string::npos)
        << error;
    EXPECT_NE(error.find("  rank 3: waiting in barrier \"stuck\" #1 of expert, "
                         "layer 4 for 0."),
              std::string::npos);
    EXPECT_NE(error.find("  ranks 0, 1: waiting in barrier \"end\" #1 of world for 0."), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace cadre::parallel
