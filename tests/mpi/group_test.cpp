// Groups of ranks over MPI.

#include <fmt/core.h>

#include <chrono>
#include <thread>

#include "core/error.h"
#include "parallel/comm/mpi.h"
#include "tests/mpi/world.h"
#include "tests/parallel/comm/group_cases.h"

namespace cadre::parallel {
namespace {

using testing::filled;
using testing::session;
using testing::view_of;

// With and without shared memory.
class MpiGroups : public ::testing::TestWithParam<bool> {
 protected:
  static std::unique_ptr<Communicator> world(std::chrono::milliseconds deadline = std::chrono::minutes(2)) {
    return session().world({.deadline = deadline, .shared_memory = GetParam(), .shared_bytes = size_t{1} << 20});
  }
};

TEST_P(MpiGroups, DoEveryCollective) { testing::check_all_groups(*world()); }

TEST_P(MpiGroups, OutliveTheirParent) {
  std::unique_ptr<Communicator> group;
  {
    const auto comm = world();
    group = comm->split(comm->rank() % 2, 0, "half");
  }
  testing::check_all(*group, {0, 1, 70'001});
}

TEST_P(MpiGroups, PollingAGroupOfOneMovesTheOthersOn) {
  const auto comm = world();
  const auto alone = comm->split(comm->rank(), 0, "alone");
  ASSERT_EQ(alone->size(), 1);
  std::vector<float> data = filled<float>(comm->rank(), 500'000);
  const WorkPtr work = comm->all_reduce(view_of(data), Reduction::kSum, {"polled"});
  // done() would poll itself; a rank that is through has polled enough for the others, too.
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(200)) {
    alone->poll();
    std::this_thread::yield();
  }
  work->wait();
}

// What this rank's body throws; empty when it does not.
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const CommunicationError& error) {
    return error.what();
  }
  return "";
}

// At least two ranks have an error with every text. The others may have seen only the consequences, or nothing at all.
void expect_seen_by_two(Communicator& control, const std::string& error, const std::vector<std::string>& texts) {
  int sees = 1;
  for (const std::string& text : texts) sees = sees != 0 && error.find(text) != std::string::npos ? 1 : 0;
  std::vector<int32_t> seen = {sees};
  control.all_reduce(view_of(seen), Reduction::kSum, {"seen"})->wait();
  EXPECT_GE(seen[0], 2) << error;
}

constexpr std::chrono::seconds kShort{3};

TEST_P(MpiGroups, AnotherCountIsAnErrorNamingBoth) {
  const auto control = session().world();
  for (int kind = 0; kind < 4; ++kind) {
    const auto comm = world(kShort);
    const auto group = comm->split(0, 0, "expert");
    const bool odd = comm->rank() == 1;
    const std::string error = error_of([&] {
      std::vector<float> data(odd ? 9 : 8);
      std::vector<float> whole(data.size() * static_cast<size_t>(comm->size()));
      std::vector<int64_t> rows(static_cast<size_t>(comm->size()), 1);
      if (kind == 0) group->all_reduce(view_of(data), Reduction::kSum, {"tokens", 2})->wait();
      if (kind == 1) group->all_gather(view_of(data), view_of(whole), {"tokens", 2})->wait();
      if (kind == 2) group->reduce_scatter(view_of(whole), view_of(data), {"tokens", 2})->wait();
      if (kind == 3) group->broadcast(view_of(data), 0, {"tokens", 2})->wait();
      // A rank that needed nothing from the others learns of it at its next call.
      group->barrier({"next"});
      group->barrier({"last"});
    });
    expect_seen_by_two(*control, error, {"of expert, layer 2, f32 x 9", "f32 x 8", "rank 1 called"});
  }
}

TEST_P(MpiGroups, AnotherOrderIsAnErrorNamingBoth) {
  const auto control = session().world();
  for (int kind = 0; kind < 3; ++kind) {
    const auto comm = world(kShort);
    const auto group = comm->split(0, 0, "expert");
    std::vector<float> a(8);
    std::vector<float> b(8);
    const auto first = [&] {
      if (kind == 0) group->all_reduce(view_of(a), Reduction::kSum, {"first"})->wait();
      if (kind == 1) group->broadcast(view_of(a), 0, {"first"})->wait();
      if (kind == 2) group->all_reduce(view_of(a), Reduction::kMax, {"first"})->wait();
    };
    const auto second = [&] {
      if (kind == 0) group->barrier({"second"});
      if (kind == 1) group->broadcast(view_of(b), 0, {"second"})->wait();  // of the same size
      if (kind == 2) group->all_reduce(view_of(b), Reduction::kMax, {"second"})->wait();
    };
    const std::string error = error_of([&] {
      if (comm->rank() == 1) {
        second();
        first();
      } else {
        first();
        second();
      }
      group->barrier({"next"});
      group->barrier({"last"});
    });
    expect_seen_by_two(*control, error, {"\"first\" #", "\"second\" #", "of expert"});
  }
}

TEST_P(MpiGroups, OneGroupsFailureLeavesTheOthersAlone) {
  const auto comm = world();
  const auto broken = comm->split(0, 0, "broken");
  error_of([&] {
    std::vector<float> data(200'000);
    broken->all_reduce(view_of(data), Reduction::kSum, {"dropped"}).reset();
    broken->barrier({"refused"});
  });
  const auto group = comm->split(comm->rank() % 2, 0, "half");
  testing::check_all(*group, {1, 130});
}

// The last two ranks are a group, in which one waits for the other, and all others for both. Only those give up, so
// that nobody has moved on when a slow one reports.
TEST_P(MpiGroups, TheDeadlineReportsEveryRankOfTheWorld) {
  const auto comm = world(kShort);
  const auto patient = world();
  const int late = comm->size() - 2;
  const int last = comm->size() - 1;
  const auto group = patient->split((last - comm->rank()) / 2, 0, "expert");
  const auto others = patient->split(comm->rank() == last ? -1 : 0, 0, "others");
  group->barrier({"before", 1});
  if (comm->rank() < late) {
    const std::string error = error_of([&] { comm->barrier({"end"}); });
    for (const std::string& text :
         {fmt::format("not arrived: rank {} and {}", late, last), std::string(": waiting in barrier \"end\" #"),
          std::string(": waiting in barrier \"release\" #"),
          fmt::format("rank {}: waiting in barrier \"stuck\" #", last), std::string(" of expert, layer 4 for ")}) {
      EXPECT_NE(error.find(text), std::string::npos) << text << " in " << error;
    }
  }
  if (others) others->barrier({"release"});
  if (comm->rank() >= late) group->barrier({"stuck", 4});
}

TEST_P(MpiGroups, PollingForWorkHasADeadlineToo) {
  const auto comm = world(std::chrono::milliseconds(500));
  const auto control = session().world();
  std::vector<float> data(10);
  if (comm->rank() == 0) {
    const WorkPtr work = comm->all_reduce(view_of(data), Reduction::kSum, {"polled"});
    EXPECT_THROW(
        {
          while (!work->done()) std::this_thread::yield();
        },
        TimeoutError);
  }
  control->barrier({"end"});
}

INSTANTIATE_TEST_SUITE_P(Transport, MpiGroups, ::testing::Bool(),
                         [](const auto& parameter) { return parameter.param ? "Shared" : "Messages"; });

}  // namespace
}  // namespace cadre::parallel
