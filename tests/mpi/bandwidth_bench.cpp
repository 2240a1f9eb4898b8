// Prints bandwidths (bytes of the buffer / median time); asserts nothing. Not run unless asked for:
// mpirun -n 2 test_mpi --gtest_also_run_disabled_tests --gtest_filter='*Bandwidth*'

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>

#include "tests/mpi/world.h"
#include "tests/parallel/comm/collective_cases.h"

namespace cadre::parallel {
namespace {

using testing::session;

// Seconds: median over repetitions of the slowest rank's time.
double measure(Communicator& comm, int repetitions, const std::function<void()>& body) {
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) {
    comm.barrier({"bench"});
    const auto start = std::chrono::steady_clock::now();
    body();
    std::vector<double> seconds = {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
    comm.all_reduce(testing::view_of(seconds), Reduction::kMax, {"bench"})->wait();
    times.push_back(seconds[0]);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void print_row(const char* name, Communicator& comm, const std::function<void(TensorView)>& body) {
  if (comm.rank() == 0) std::printf("%-28s", name);
  for (const int64_t mebibytes : {1, 4, 8, 16, 64}) {
    std::vector<float> data(static_cast<size_t>(mebibytes) << 18, 1.0F / 3);
    const double seconds = measure(comm, mebibytes > 16 ? 9 : 25, [&] { body(testing::view_of(data)); });
    if (comm.rank() == 0) std::printf(" %8.2f", static_cast<double>(mebibytes << 20) / 1e9 / seconds);
  }
  if (comm.rank() == 0) std::printf("\n");
}

TEST(Bench, DISABLED_Bandwidth) {
  const auto shared = session().world();
  const auto messages = session().world({.shared_memory = false});
  if (shared->rank() == 0) {
    std::printf("%d ranks, GB/s at MiB:          1        4        8       16       64\n", shared->size());
  }
  print_row("all_reduce, shared memory", *shared,
            [&](TensorView data) { shared->all_reduce(data, Reduction::kSum, {"bench"})->wait(); });
  print_row("all_reduce, messages", *messages,
            [&](TensorView data) { messages->all_reduce(data, Reduction::kSum, {"bench"})->wait(); });
  std::vector<float> whole(size_t{64} << 18);
  print_row("all_gather", *shared, [&](TensorView data) {
    TensorView part = data;
    part.shape = Shape{data.shape.elements() / shared->size()};
    part.row_stride = part.shape.elements();
    TensorView all = data;
    all.data = whole.data();
    all.shape = Shape{part.shape.elements() * shared->size()};
    all.row_stride = all.shape.elements();
    shared->all_gather(part, all, {"bench"})->wait();
  });
  print_row("all_to_all", *shared, [&](TensorView data) {
    TensorView all = data;
    all.data = whole.data();
    const std::vector<int64_t> rows(static_cast<size_t>(shared->size()), data.shape.elements() / shared->size());
    shared->all_to_all(data, rows, all, rows, {"bench"})->wait();
  });
  std::vector<double> one = {1};
  const double latency = measure(*shared, 9, [&] {
    for (int i = 0; i < 1000; ++i) shared->all_reduce(testing::view_of(one), Reduction::kSum, {"bench"})->wait();
  });
  constexpr int kPolls = 1'000'000;
  const double poll = measure(*shared, 3, [&] {
    for (int i = 0; i < kPolls; ++i) shared->poll();
  });
  if (shared->rank() == 0) {
    std::printf("all_reduce of one double: %.1f us; poll with nothing pending: %.1f ns\n", latency * 1e3,
                poll / kPolls * 1e9);
  }
}

}  // namespace
}  // namespace cadre::parallel
