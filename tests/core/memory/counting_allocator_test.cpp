#include <gtest/gtest.h>

#include <vector>

#include "core/tensor.h"

namespace cadre {
namespace {

TEST(CountingAllocator, CountsWhatHostMemoryHandsOut) {
  const std::shared_ptr<Allocator> counting = make_counting_allocator(), host = make_host_allocator();
  const size_t sizes[] = {0, 1, 256, 257, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5'000'000};
  for (Allocator* allocator : {counting.get(), host.get()}) {
    std::vector<std::shared_ptr<Buffer>> buffers;
    for (const size_t size : sizes) buffers.push_back(allocator->allocate(size));
    buffers.erase(buffers.begin() + 3, buffers.begin() + 6);
  }
  EXPECT_EQ(counting->stats().in_use, host->stats().in_use);
  EXPECT_EQ(counting->stats().peak, host->stats().peak);
  EXPECT_EQ(counting->stats().in_use, 0u);
  EXPECT_GT(counting->stats().peak, 8'000'000u);
  counting->reset_peak();
  EXPECT_EQ(counting->stats().peak, 0u);
}

TEST(CountingAllocator, HoldsMoreThanTheMachineHas) {
  const std::shared_ptr<Allocator> allocator = make_counting_allocator();
  const Tensor huge = Tensor::zeros(*allocator, Dtype::kF32, Shape{int64_t{1} << 38});  // 1 TiB
  EXPECT_EQ(allocator->stats().in_use, size_t{1} << 40);
  huge.data<float>()[int64_t{1} << 37] = 1;  // a page of it is real
  EXPECT_EQ(huge.data<float>()[int64_t{1} << 37], 1);
  EXPECT_EQ(huge.data<float>()[huge.elements() - 1], 0);
}

}  // namespace
}  // namespace cadre
