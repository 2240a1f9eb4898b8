#include "parallel/comm/metered.h"

#include <gtest/gtest.h>

#include <mutex>

#include "parallel/comm/described.h"
#include "parallel/comm/thread.h"

namespace cadre::parallel {
namespace {

struct Buffers {
  std::shared_ptr<Allocator> allocator = make_host_allocator();
  Tensor of(int64_t rows, int64_t cols, Dtype dtype = Dtype::kF32) const {
    return Tensor::zeros(*allocator, dtype, Shape{rows, cols});
  }
};

// One of each, with rows that differ by rank.
void communicate(Communicator& world) {
  const Buffers buffers;
  const int n = world.size(), rank = world.rank();
  world.all_reduce(buffers.of(6, 10), Reduction::kSum, {"reduce"})->wait();
  world.all_gather(buffers.of(2, 10), buffers.of(2 * n, 10), {"gather"})->wait();
  world.reduce_scatter(buffers.of(2 * n, 10), buffers.of(2, 10), {"scatter"})->wait();
  std::vector<int64_t> rows(static_cast<size_t>(n), 2);
  world.all_to_all(buffers.of(2 * n, 10), rows, buffers.of(2 * n, 10), rows, {"exchange"})->wait();
  world.broadcast(buffers.of(1, 10), 1, {"broadcast"})->wait();
  if (rank == 0) world.send(buffers.of(4, 10), 1, {"message"})->wait();
  if (rank == 1) world.receive(buffers.of(4, 10), 0, {"message"})->wait();
}

TEST(Metered, CountsWhatARankHasToSendAtLeast) {
  constexpr int kRanks = 3;
  std::mutex mutex;
  std::vector<Traffic> traffic(kRanks);
  ThreadWorld(kRanks).run([&](Communicator& world) {
    Traffic mine;
    const auto metered = make_metered_communicator(world, mine);
    communicate(*metered);
    const auto pair = metered->split(world.rank() < 2 ? 0 : 1, 0, "pair");
    const Buffers buffers;
    pair->all_reduce(buffers.of(3, 10), Reduction::kSum, {"reduce"})->wait();
    const std::lock_guard lock(mutex);
    traffic[static_cast<size_t>(world.rank())] = mine;
  });
  const double row = 40;  // bytes
  const auto& first = traffic[0];
  EXPECT_EQ(first.at({"world", "reduce"}).bytes, 2 * 4 * row);
  EXPECT_EQ(first.at({"world", "gather"}).bytes, 4 * row);
  EXPECT_EQ(first.at({"world", "scatter"}).bytes, 4 * row);
  EXPECT_EQ(first.at({"world", "exchange"}).bytes, 4 * row);
  EXPECT_EQ(first.at({"world", "broadcast"}).bytes, 0);
  EXPECT_EQ(first.at({"world", "message"}).bytes, 4 * row);
  EXPECT_EQ(first.at({"pair", "reduce"}).bytes, 3 * row);
  EXPECT_EQ(first.at({"pair", "reduce"}).calls, 1);
  EXPECT_EQ(traffic[1].at({"world", "broadcast"}).bytes, row);
  EXPECT_EQ(traffic[1].count({"world", "message"}), 0u) << "a receive sends nothing";
  EXPECT_EQ(traffic[2].count({"pair", "reduce"}), 0u) << "alone";
}

TEST(Metered, ADescribedRankSendsWhatARealOneDoes) {
  Traffic real, described;
  ThreadWorld(2).run([&](Communicator& world) {
    Traffic other;
    communicate(*make_metered_communicator(world, world.rank() == 0 ? real : other));
  });
  communicate(*make_metered_communicator(make_described_communicator(0, 2, "world"), described));
  ASSERT_EQ(real.size(), described.size());
  for (const auto& [key, count] : real) {
    EXPECT_EQ(described.at(key).calls, count.calls) << key.second;
    EXPECT_EQ(described.at(key).bytes, count.bytes) << key.second;
  }
}

TEST(Described, IntegersComeOutAsIfAllRanksWereAlike) {
  const Buffers buffers;
  const auto communicator = make_described_communicator(1, 4, "expert");
  const Tensor mine = buffers.of(1, 3, Dtype::kI64), all = buffers.of(4, 3, Dtype::kI64);
  for (int64_t i = 0; i < 3; ++i) mine.data<int64_t>()[i] = 10 + i;
  communicator->all_gather(mine, all, {"counts"})->wait();
  for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(all.data<int64_t>()[i], 10 + i % 3);
  communicator->all_reduce(mine, Reduction::kMax, {"most"})->wait();
  EXPECT_EQ(mine.data<int64_t>()[2], 12);
  communicator->all_reduce(mine, Reduction::kSum, {"sum"})->wait();
  EXPECT_EQ(mine.data<int64_t>()[2], 48);
  EXPECT_EQ(communicator->rank(), 1);
  EXPECT_EQ(communicator->group().name, "expert");
  EXPECT_THROW(communicator->split(0, 0, "x"), InternalError);
}

}  // namespace
}  // namespace cadre::parallel
