#include "parallel/comm/reduction.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/error.h"
#include "tests/parallel/comm/collective_cases.h"

namespace cadre::parallel {
namespace {

TEST(Reduction, AnyNumberOfSourcesIsSummedInATree) {
  for (int count = 1; count <= 40; ++count) {
    std::vector<std::vector<float>> values;
    std::vector<const void*> sources;
    for (int rank = 0; rank < count; ++rank) values.push_back(testing::filled<float>(rank, 1100));
    for (const auto& value : values) sources.push_back(value.data());
    std::vector<float> out(1100);
    reduce_in_order(Dtype::kF32, Reduction::kSum, sources, 1100, out.data());
    for (int64_t i = 0; i < 1100; ++i) ASSERT_EQ(out[static_cast<size_t>(i)], testing::sum_at<float>(count, i));
  }
}

TEST(Reduction, ATreeOverBlocksIsATreeOfTrees) {
  for (const size_t block : {1, 2, 3, 4, 5, 9}) {
    std::vector<std::vector<float>> values;
    std::vector<const void*> sources;
    for (int rank = 0; rank < 9; ++rank) values.push_back(testing::filled<float>(rank, 50));
    for (const auto& value : values) sources.push_back(value.data());
    std::vector<float> out(50);
    reduce_in_order(Dtype::kF32, Reduction::kSum, sources, 50, out.data(), nullptr, block);
    for (size_t i = 0; i < 50; ++i) {
      std::vector<float> blocks;
      for (size_t begin = 0; begin < 9; begin += block) {
        std::vector<float> members;
        for (size_t rank = begin; rank < std::min<size_t>(9, begin + block); ++rank) members.push_back(values[rank][i]);
        blocks.push_back(testing::in_tree(members));
      }
      ASSERT_EQ(out[i], testing::in_tree(blocks)) << block;
    }
  }
}

TEST(Reduction, SumsInTheOrderOfTheSources) {
  // (1e8 + 1) - 1e8 in f32 loses the 1; 1e8 - 1e8 + 1 keeps it.
  const std::vector<float> large(40, 1e8F);
  const std::vector<float> one(40, 1.0F);
  const std::vector<float> minus(40, -1e8F);
  std::vector<float> out(40);
  std::vector<float> copy(40);
  reduce_in_order(Dtype::kF32, Reduction::kSum, {large.data(), one.data(), minus.data()}, 40, out.data(), copy.data());
  EXPECT_EQ(out, std::vector<float>(40, 0.0F));
  EXPECT_EQ(copy, out);
  reduce_in_order(Dtype::kF32, Reduction::kSum, {large.data(), minus.data(), one.data()}, 40, out.data());
  EXPECT_EQ(out, std::vector<float>(40, 1.0F));
}

TEST(Reduction, OutMayBeASource) {
  for (const int64_t count : {1, 31, 32, 1023, 1024, 1025, 4099}) {
    std::vector<double> a(static_cast<size_t>(count), 0.1);
    std::vector<double> b(static_cast<size_t>(count), 0.2);
    const std::vector<double> c(static_cast<size_t>(count), 0.3);
    reduce_in_order(Dtype::kF64, Reduction::kSum, {a.data(), b.data(), c.data()}, count, b.data());
    EXPECT_EQ(b, std::vector<double>(static_cast<size_t>(count), (0.1 + 0.2) + 0.3));
  }
}

TEST(Reduction, IntegersWrapAround) {
  const int32_t largest = std::numeric_limits<int32_t>::max();
  const int32_t one = 1;
  int32_t out = 0;
  reduce_in_order(Dtype::kI32, Reduction::kSum, {&largest, &one}, 1, &out);
  EXPECT_EQ(out, std::numeric_limits<int32_t>::min());
}

TEST(Reduction, RefusesOtherDtypes) {
  uint8_t byte = 0;
  EXPECT_THROW(reduce_in_order(Dtype::kU8, Reduction::kSum, {&byte}, 1, &byte), InternalError);
}

}  // namespace
}  // namespace cadre::parallel
