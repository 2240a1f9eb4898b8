#include "parallel/comm/agreement.h"

#include <gtest/gtest.h>

#include "parallel/comm/self.h"
#include "parallel/comm/thread.h"

namespace cadre::parallel {
namespace {

// Every rank must throw E; returns rank 0's message after checking that all have the same.
template <class E, class Body>
std::string common_error(int ranks, Body&& body) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  ThreadWorld(ranks).run([&](Communicator& comm) {
    try {
      body(comm);
    } catch (const E& error) {
      errors[static_cast<size_t>(comm.rank())] = error.what();
    }
    comm.barrier({"after"});
  });
  for (const std::string& error : errors) EXPECT_EQ(error, errors[0]);
  return errors[0];
}

TEST(Agreement, EqualTextsPass) {
  ThreadWorld(3).run([](Communicator& comm) { agree_on(comm, "same", "config"); });
  agree_on(*make_self_communicator(), "alone", "config");
}

TEST(Agreement, TheOddRankIsNamed) {
  const std::string error = common_error<DataError>(4, [](Communicator& comm) {
    agree_on(comm, comm.rank() == 2 ? "tokens 10" : "tokens 12", "training data", ExitCode::kData);
  });
  EXPECT_EQ(error, "training data differs between ranks: rank 2 has \"tokens 10\", rank 0 has \"tokens 12\"");
}

TEST(Agreement, LongTextsAreQuotedWhereTheyDiffer) {
  const std::string error = common_error<ConfigError>(3, [](Communicator& comm) {
    std::string text(5000, 'a');
    if (comm.rank() == 0) text[4000] = 'b';
    agree_on(comm, text, "config");
  });
  EXPECT_NE(error.find("aba"), std::string::npos) << error;
  EXPECT_LT(error.size(), 300U);
}

TEST(Agreement, ErrorsOfOneRankAreThrownByAll) {
  const std::string error = common_error<CheckpointError>(3, [](Communicator& comm) {
    all_ok_after(comm, [&] {
      if (comm.rank() == 1) throw CheckpointError("shard 1 is damaged");
      if (comm.rank() == 2) throw DataError("later ranks do not count");
    });
  });
  EXPECT_EQ(error, "rank 1: shard 1 is damaged");
}

TEST(Agreement, AnErrorOfAllRanksNamesNone) {
  const std::string error = common_error<ConfigError>(
      3, [](Communicator& comm) { all_ok(comm, "run.steps: -1, wanted at least 1", ExitCode::kUsage); });
  EXPECT_EQ(error, "run.steps: -1, wanted at least 1");
}

TEST(Agreement, ForeignExceptionsAreInternalErrors) {
  common_error<InternalError>(2, [](Communicator& comm) {
    all_ok_after(comm, [&] {
      if (comm.rank() == 0) throw std::runtime_error("surprise");
    });
  });
  ThreadWorld(2).run([](Communicator& comm) { all_ok(comm, std::nullopt); });
}

}  // namespace
}  // namespace cadre::parallel
