// Messages between ranks that are processes.

#include <chrono>
#include <thread>

#include "core/error.h"
#include "parallel/comm/mpi.h"
#include "tests/mpi/world.h"
#include "tests/parallel/comm/message_cases.h"

namespace cadre::parallel {
namespace {

using testing::filled;
using testing::session;
using testing::view_of;

TEST(MpiMessages, ManyAtOnceBothWays) {
  const auto comm = session().world();
  testing::check_many_messages(*comm, 100, 300);     // of a size that is sent at once
  testing::check_many_messages(*comm, 40, 200'000);  // of one that waits for its receiver
  testing::check_messages_beside_collectives(*comm);
  const auto half = comm->split(comm->rank() % 2, -comm->rank(), "half");
  testing::check_many_messages(*half, 10, 20'000);
}

TEST(MpiMessages, OfAnotherKindAreErrorsNamingBoth) {
  const auto control = session().world();
  for (const testing::WrongMessage wrong : testing::kWrongMessages) {
    const auto comm = session().world();
    const std::string error = testing::error_of_wrong_message(*comm, wrong);
    if (comm->rank() == 1) {
      testing::expect_both_named(error, wrong);
      EXPECT_THROW(comm->barrier({"refused"}), CommunicationError);
    }
    control->barrier({"next"});
  }
}

// A large message moves on while both ranks only compute and poll.
TEST(MpiMessages, PollingMovesThemOn) {
  const auto comm = session().world();
  const auto control = session().world();
  std::vector<float> data = filled<float>(0, 3'000'000);
  if (comm->rank() == 1) std::fill(data.begin(), data.end(), -1.0F);
  control->barrier({"start"});
  WorkPtr work;
  if (comm->rank() == 0) work = comm->send(view_of(data), 1, {"activation"});
  if (comm->rank() == 1) work = comm->receive(view_of(data), 0, {"activation"});
  // The end is seen in the data, so that nothing but poll() has moved it.
  const auto arrived = [&] { return static_cast<volatile float&>(data.back()) != -1.0F; };
  while (comm->rank() == 1 && !arrived()) comm->poll();
  const auto start = std::chrono::steady_clock::now();
  while (comm->rank() == 0 && !work->done() && std::chrono::steady_clock::now() - start < std::chrono::minutes(1)) {
    std::this_thread::yield();
  }
  if (work) work->wait();
  if (comm->rank() == 1) {
    EXPECT_EQ(data, filled<float>(0, 3'000'000));
  }
  control->barrier({"end"});
}

TEST(MpiMessages, TheDeadlineTellsWhoWaitsForWhom) {
  const auto comm = session().world({.deadline = std::chrono::seconds(2)});
  const auto control = session().world();
  std::vector<float> data(8);
  // Rank 0 and the last one receive from each other before they send.
  const int last = comm->size() - 1;
  if (comm->rank() == 0 || comm->rank() == last) {
    const int other = last - comm->rank();
    try {
      comm->receive(view_of(data), other, {"activation", 6})->wait();
      ADD_FAILURE() << "nobody has sent";
    } catch (const TimeoutError& error) {
      const std::string text = error.what();
      const std::string call =
          "receive \"activation\" #0 of world, layer 6, f32 x 8 from rank " + std::to_string(other);
      EXPECT_NE(text.find("rank " + std::to_string(comm->rank()) + ": " + call), std::string::npos) << text;
      EXPECT_NE(text.find(": not finished: rank " + std::to_string(other)), std::string::npos) << text;
    }
  }
  control->barrier({"end"});
}

}  // namespace
}  // namespace cadre::parallel
