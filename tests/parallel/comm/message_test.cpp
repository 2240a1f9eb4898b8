// Messages between ranks that are threads.

#include <gtest/gtest.h>

#include "core/error.h"
#include "parallel/comm/thread.h"
#include "tests/parallel/comm/message_cases.h"
#include "tests/parallel/comm/thread_errors.h"

namespace cadre::parallel {
namespace {

using testing::errors_of;
using testing::view_of;

class ThreadMessages : public ::testing::TestWithParam<int> {};

TEST_P(ThreadMessages, ManyAtOnceBothWays) {
  ThreadWorld(GetParam()).run([](Communicator& comm) {
    testing::check_many_messages(comm, 40, 3000);
    testing::check_messages_beside_collectives(comm);
    const auto half = comm.split(comm.rank() % 2, -comm.rank(), "half");
    testing::check_many_messages(*half, 10, 100);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, ThreadMessages, ::testing::Values(1, 2, 3, 5));

TEST(ThreadMessages, OfAnotherKindAreErrorsNamingBoth) {
  for (const testing::WrongMessage wrong : testing::kWrongMessages) {
    std::string error;
    const auto errors = errors_of(2, [&](Communicator& comm) {
      const std::string text = testing::error_of_wrong_message(comm, wrong);
      if (!text.empty()) throw CommunicationError(text);
    });
    for (const std::string& text : errors) error = text.empty() ? error : text;
    testing::expect_both_named(error, wrong);
  }
}

// Every rank waits; the report says for whom.
TEST(ThreadMessages, RanksThatWaitForEachOtherAreNamed) {
  const auto circle_of = [](const std::function<void(Communicator&)>& body, const std::string& wanted) {
    for (const std::string& error : errors_of(3, body, std::chrono::seconds(1))) {
      EXPECT_NE(error.find("the ranks wait for each other: "), std::string::npos) << error;
      EXPECT_NE(error.find(wanted), std::string::npos) << error;
    }
  };
  // Each rank receives before it sends.
  circle_of(
      [](Communicator& comm) {
        std::vector<float> data(4);
        comm.barrier({"start"});
        comm.receive(view_of(data), (comm.rank() + 1) % 3, {"activation"})->wait();
        comm.send(view_of(data), (comm.rank() + 2) % 3, {"activation"})->wait();
      },
      "1 for 2");
  // Rank 0 waits for a message that rank 1 sends after the collective, which rank 0 enters after the message.
  circle_of(
      [](Communicator& comm) {
        std::vector<float> data(4);
        comm.barrier({"start"});
        if (comm.rank() == 0) comm.receive(view_of(data), 1, {"gradient"})->wait();
        comm.barrier({"end"});
        if (comm.rank() == 1) comm.send(view_of(data), 0, {"gradient"})->wait();
      },
      "1 for 0");
}

}  // namespace
}  // namespace cadre::parallel
