#include "parallel/data/reducer.h"

#include "core/error.h"
#include "parallel/comm/self.h"
#include "parallel/comm/thread.h"
#include "tests/parallel/comm/collective_cases.h"

namespace cadre::parallel {
namespace {

using testing::filled;
using testing::view_of;

// Parameters laid out forwards with padding between them, finished backwards.
std::vector<GradientRange> backward_order() { return {{96, 10}, {64, 20}, {32, 17}, {16, 9}, {0, 16}}; }
constexpr int64_t kElements = 106;

template <class T>
void expect_sums(const std::vector<T>& gradient, int ranks) {
  for (const GradientRange& range : backward_order()) {
    for (int64_t i = range.offset; i < range.offset + range.count; ++i) {
      T wanted = static_cast<T>(testing::value_at(0, i));
      for (int rank = 1; rank < ranks; ++rank) wanted += static_cast<T>(testing::value_at(rank, i));
      ASSERT_EQ(gradient[static_cast<size_t>(i)], wanted) << i;
    }
  }
}

TEST(Reducer, GivesTheSumWhateverTheBucketSize) {
  for (const int64_t bucket_bytes : {1, 100, 200, 1 << 20}) {
    ThreadWorld(3).run([&](Communicator& comm) {
      std::vector<float> gradient = filled<float>(comm.rank(), kElements);
      Reducer reducer(comm, view_of(gradient), backward_order(), {.bucket_bytes = bucket_bytes});
      for (int step = 0; step < 2; ++step) {
        const std::vector<float> local = filled<float>(comm.rank(), kElements);
        std::copy(local.begin(), local.end(), gradient.begin());
        reducer.start_step();
        for (int64_t parameter = 0; parameter < 5; ++parameter) {
          reducer.mark_ready(parameter);
          reducer.poll();
        }
        EXPECT_EQ(reducer.finish().started_before_finish, reducer.bucket_count());
        expect_sums(gradient, 3);
      }
    });
  }
}

TEST(Reducer, BucketsGrowToTheirSize) {
  std::vector<double> gradient(kElements);
  const auto self = make_self_communicator();
  EXPECT_EQ(Reducer(*self, view_of(gradient), backward_order(), {.bucket_bytes = 1 << 20}).bucket_count(), 1);
  EXPECT_EQ(Reducer(*self, view_of(gradient), backward_order(), {.bucket_bytes = 8}).bucket_count(), 5);
  // {64..106}, {0..49}
  EXPECT_EQ(Reducer(*self, view_of(gradient), backward_order(), {.bucket_bytes = 8 * 49}).bucket_count(), 2);
  EXPECT_EQ(
      Reducer(*self, view_of(gradient), backward_order(), {.bucket_bytes = 1 << 20, .largest_gap = 0}).bucket_count(),
      4);
}

TEST(Reducer, AParameterInTheGapIsNotReducedTwice) {
  ThreadWorld(2).run([](Communicator& comm) {
    std::vector<double> gradient = filled<double>(comm.rank(), 30);
    // The second in the order lies between the first and the third.
    Reducer reducer(comm, view_of(gradient), {{0, 10}, {20, 10}, {10, 4}});
    reducer.start_step();
    for (int64_t parameter = 0; parameter < 3; ++parameter) reducer.mark_ready(parameter);
    reducer.finish();
    for (const int64_t i : {0, 9, 10, 13, 20, 29}) {
      EXPECT_EQ(gradient[static_cast<size_t>(i)], testing::value_at(0, i) + testing::value_at(1, i));
    }
  });
}

TEST(Reducer, ReadinessInAnotherOrderOnEachRankIsSafe) {
  ThreadWorld(3).run([&](Communicator& comm) {
    std::vector<float> gradient = filled<float>(comm.rank(), kElements);
    Reducer reducer(comm, view_of(gradient), backward_order(), {.bucket_bytes = 1});
    for (int64_t i = 0; i < 5; ++i) reducer.mark_ready((i * (comm.rank() + 1) + comm.rank()) % 5);
    const ReducerReport report = reducer.finish();
    EXPECT_EQ(report.started_before_finish, 5);
    EXPECT_EQ(report.bytes, (10 + 20 + 17 + 9 + 16) * 4);
    expect_sums(gradient, 3);
  });
}

TEST(Reducer, BucketsStartInOrderAndWhatIsNeverMarkedIsReducedToo) {
  ThreadWorld(2).run([&](Communicator& comm) {
    std::vector<float> gradient = filled<float>(comm.rank(), kElements);
    Reducer reducer(comm, view_of(gradient), backward_order(), {.bucket_bytes = 1});
    if (comm.rank() == 0) {
      reducer.mark_ready(0);
      reducer.mark_ready(1);
      reducer.mark_ready(4);
    }
    const ReducerReport report = reducer.finish();
    EXPECT_EQ(report.started_before_finish, comm.rank() == 0 ? 2 : 0);
    expect_sums(gradient, 2);
  });
}

TEST(Reducer, OneRankHasNoWork) {
  const auto self = make_self_communicator();
  std::vector<double> gradient = filled<double>(0, kElements);
  Reducer reducer(*self, view_of(gradient), backward_order());
  for (int64_t parameter = 0; parameter < 5; ++parameter) reducer.mark_ready(parameter);
  const ReducerReport report = reducer.finish();
  EXPECT_EQ(report.bytes, 0);
  EXPECT_EQ(gradient, filled<double>(0, kElements));
}

TEST(Reducer, RefusesMisuse) {
  const auto self = make_self_communicator();
  std::vector<double> gradient(100);
  std::vector<int64_t> integers(100);
  EXPECT_THROW(Reducer(*self, view_of(gradient), {{0, 60}, {50, 50}}), InternalError);
  EXPECT_THROW(Reducer(*self, view_of(gradient), {{60, 50}}), InternalError);
  EXPECT_THROW(Reducer(*self, view_of(integers), {{0, 50}}), InternalError);
  Reducer reducer(*self, view_of(gradient), {{0, 60}, {60, 0}, {60, 40}});
  reducer.mark_ready(1);
  EXPECT_THROW(reducer.mark_ready(1), InternalError);
  EXPECT_THROW(reducer.mark_ready(3), InternalError);
}

}  // namespace
}  // namespace cadre::parallel
