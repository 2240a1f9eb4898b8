#include "parallel/comm/mpi.h"

#include <chrono>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "autograd/parameter_store.h"
#include "core/error.h"
#include "parallel/comm/agreement.h"
#include "parallel/data/reducer.h"
#include "tests/mpi/world.h"
#include "tests/parallel/comm/collective_cases.h"

namespace cadre::parallel {
namespace {

using testing::filled;
using testing::session;
using testing::sum_at;
using testing::view_of;

// With and without shared memory.
class Mpi : public ::testing::TestWithParam<bool> {
 protected:
  static std::unique_ptr<Communicator> world(std::chrono::milliseconds deadline = std::chrono::minutes(2)) {
    // Little shared memory, so that slots are used many times.
    return session().world({.deadline = deadline, .shared_memory = GetParam(), .shared_bytes = size_t{1} << 20});
  }
};

TEST_P(Mpi, DoesEveryCollective) {
  const auto comm = world();
  testing::check_all(*comm, {0, 1, 7, 8192, 70'001});
  testing::check_send_receive(*comm, 33);
  testing::check_send_receive(*comm, 1'000'003);
  testing::check_overlap(*comm, 200'003);
}

TEST_P(Mpi, LargeBuffersGoPieceByPiece) {
  const auto comm = world();
  testing::check_all_reduce<float>(*comm, (int64_t{5} << 20) + 3, Reduction::kSum);
  testing::check_reduce_scatter(*comm, (int64_t{5} << 18) + 3);
}

TEST_P(Mpi, TheBitsDoNotDependOnHowABufferIsCut) {
  const auto comm = world();
  const int64_t count = 300'007;
  std::vector<float> whole = filled<float>(comm->rank(), count);
  std::vector<float> parts = whole;
  comm->all_reduce(view_of(whole), Reduction::kSum, {"whole"})->wait();
  for (int64_t begin = 0; begin < count; begin += 9'973) {
    const int64_t end = std::min(count, begin + 9'973);
    TensorView part = view_of(parts);
    part.data = parts.data() + begin;
    part.shape = Shape{end - begin};
    part.row_stride = end - begin;
    comm->all_reduce(part, Reduction::kSum, {"part"})->wait();
  }
  EXPECT_EQ(whole, parts);
}

TEST_P(Mpi, ManySmallReductions) {
  const auto comm = world();
  for (int i = 0; i < 2000; ++i) {
    std::vector<double> value = {static_cast<double>(comm->rank() + i)};
    comm->all_reduce(view_of(value), Reduction::kSum, {"loss"})->wait();
    ASSERT_EQ(value[0], comm->size() * i + comm->size() * (comm->size() - 1) / 2);
  }
}

TEST_P(Mpi, PollCompletesWorkThatNobodyWaitsFor) {
  const auto comm = world();
  std::vector<float> data = filled<float>(comm->rank(), 500'000);
  const WorkPtr work = comm->all_reduce(view_of(data), Reduction::kSum, {"polled"});
  const auto other = world();  // its handshake needs no help from `work`
  while (!work->done()) {
    other->poll();  // one engine serves all communicators
    std::this_thread::yield();
  }
  EXPECT_FLOAT_EQ(
      data[0], filled<float>(0, 1)[0] + [&] {
        float rest = 0;
        for (int rank = 1; rank < comm->size(); ++rank) rest += filled<float>(rank, 1)[0];
        return rest;
      }());
}

TEST_P(Mpi, RanksThatWaitForDifferentCollectivesDoNotBlockEachOther) {
  const auto a = world();
  const auto b = world();
  std::vector<float> first = filled<float>(a->rank(), 1'000'000);
  std::vector<float> second = first;
  const WorkPtr on_b = b->all_reduce(view_of(second), Reduction::kSum, {"b"});
  if (a->rank() % 2 == 1) on_b->wait();
  a->all_reduce(view_of(first), Reduction::kSum, {"a"})->wait();
  if (a->rank() % 2 == 0) on_b->wait();
  EXPECT_EQ(first, second);
}

TEST_P(Mpi, TheDeadlineNamesTheCallAndTheMissingRank) {
  const auto comm = world(std::chrono::milliseconds(3000));
  const auto control = world();
  const int late = comm->size() - 1;
  std::vector<float> data(100'000);
  if (comm->rank() != late) {
    try {
      comm->all_reduce(view_of(data), Reduction::kSum, {"gradients", 7})->wait();
      ADD_FAILURE() << "the deadline passed unnoticed";
    } catch (const CommunicationError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("all_reduce(sum) \"gradients\" #"), std::string::npos) << text;
      EXPECT_NE(text.find("layer 7"), std::string::npos) << text;
      // On a busy machine other ranks may be missing too.
      const size_t missing = text.find("not arrived: rank ");
      ASSERT_NE(missing, std::string::npos) << text;
      EXPECT_NE(text.find(std::to_string(late), missing), std::string::npos) << text;
    }
    EXPECT_THROW(comm->barrier({"refused"}), CommunicationError);
  }
  control->barrier({"end"});
}

TEST_P(Mpi, BadInputOnOneRankIsRefusedByAll) {
  const auto comm = world();
  EXPECT_THROW(all_ok_after(*comm,
                            [&] {
                              if (comm->rank() == 1) throw DataError("no tokens");
                            }),
               DataError);
  EXPECT_THROW(agree_on(*comm, comm->rank() == 1 ? "x" : "y", "config"), ConfigError);
  agree_on(*comm, "z", "config");
}

TEST_P(Mpi, ReducerOverlapsAndSums) {
  const auto comm = world();
  ThreadPool threads(1);
  const auto allocator = make_host_allocator();
  const autograd::Context context{{threads, kernels::best_isa()}, *allocator, Dtype::kF32};
  std::vector<int> all(static_cast<size_t>(comm->size()));
  std::iota(all.begin(), all.end(), 0);
  for (const int zero : {0, 1}) {
    autograd::ParameterStore store;
    for (int i = 0; i < 10; ++i) store.declare("p" + std::to_string(i), Shape{100'000}, 1, true);
    store.materialise(context, 1);
    std::vector<ReducedParameter> parameters;
    for (int i = 9; i >= 0; --i) {
      parameters.push_back(
          {store.parameters()[static_cast<size_t>(i)].get(), {{100'000, i * pieces_of(100'000), all}}});
    }
    Reducer reducer(*comm, *allocator, {store.values(), store.gradients(), {}}, parameters,
                    {.bucket_bytes = 800'000, .zero = zero});
    EXPECT_EQ(reducer.bucket_count(), 5);
    const std::vector<float> mine = filled<float>(comm->rank(), 1'000'000);
    std::copy(mine.begin(), mine.end(), store.gradients().data<float>());
    for (const auto& parameter : store.parameters()) parameter->claim(0, parameter->groups(), 0);
    for (int64_t i = 0; i < 10; ++i) reducer.ready(comm->rank() % 2 == 0 ? i : 9 - i, true);
    EXPECT_EQ(reducer.finish().started_before_finish, 5);
    for (int64_t i = 0; i < 10; ++i) {
      const ElementRange owned = owned_range(100'000, i * pieces_of(100'000), comm->rank(), comm->size());
      const int64_t begin = zero == 0 ? 0 : owned.begin, end = zero == 0 ? 100'000 : owned.end;
      for (int64_t at = i * 100'000 + begin; at < i * 100'000 + end; ++at) {
        ASSERT_EQ(store.gradients().data<float>()[at], sum_at<float>(comm->size(), at)) << at;
      }
    }
    reducer.publish();
  }
}

INSTANTIATE_TEST_SUITE_P(Transport, Mpi, ::testing::Bool(),
                         [](const auto& parameter) { return parameter.param ? "Shared" : "Messages"; });

TEST(MpiShared, DifferentCallsFailOnEveryRankNamingBoth) {
  const auto comm = session().world();
  const auto control = session().world();
  std::vector<float> data(comm->rank() == 1 ? 200'000 : 10);
  try {
    comm->all_reduce(view_of(data), Reduction::kSum, {"gradients"})->wait();
    ADD_FAILURE() << "the difference passed unnoticed";
  } catch (const CommunicationError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("f32 x 200000"), std::string::npos) << text;
    EXPECT_NE(text.find("f32 x 10"), std::string::npos) << text;
  }
  control->barrier({"end"});
}

TEST(MpiSession, WithoutALauncherThereIsOneRank) {
  MpiSession alone(Launcher::kNone);
  EXPECT_EQ(alone.world()->size(), 1);
}

}  // namespace
}  // namespace cadre::parallel
