#include "launch/checkpoint/state.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/error.h"
#include "launch/checkpoint/shard_plan.h"

namespace cadre::launch {
namespace {

TensorView view_of(std::vector<int32_t>& values, Shape shape) {
  return {values.data(), Dtype::kI32, shape, shape.cols()};
}

TEST(TensorNames, PathsOnly) {
  for (const char* good : {"/a", "/model/layers.3.moe.experts.17.w1", "/optimizer/x/exp_avg"})
    EXPECT_TRUE(is_tensor_name(good));
  for (const char* bad : {"", "/", "a", "/a/", "//a", "/a//b", "/../a", "/a/./b", "/a b", "/a\n", "/\xc3\xa9"}) {
    EXPECT_FALSE(is_tensor_name(bad)) << bad;
  }
  EXPECT_FALSE(is_tensor_name("/" + std::string(2000, 'a')));
}

TEST(Entries, MisfitsAreRefusedByName) {
  std::vector<int32_t> values(12);
  EXPECT_NO_THROW(check_entry({"/x", {8, 4}, {5, 0}, view_of(values, {3, 4})}));
  EXPECT_THROW(check_entry({"/x", {8, 4}, {6, 0}, view_of(values, {3, 4})}), CheckpointError);
  EXPECT_THROW(check_entry({"/x", {8, 4}, {0}, view_of(values, {3, 4})}), CheckpointError);
  EXPECT_THROW(check_entry({"x", {3, 4}, {0, 0}, view_of(values, {3, 4})}), CheckpointError);
  EXPECT_THROW(check_entry({"/x", {3, 4}, {0, 0}, {nullptr, Dtype::kI32, {3, 4}, 4}}), CheckpointError);
}

TEST(Entries, RowsOfStridedTensors) {
  std::vector<int32_t> values(100);
  StateEntry entry{"/x", {9, 2, 3}, {1, 0, 0}, {values.data(), Dtype::kI32, {4, 2, 3}, 5}};
  const StateEntry part = rows_of(entry, 2, 3);
  EXPECT_EQ(part.data.data, values.data() + 2 * 2 * 5);
  EXPECT_EQ(part.data.shape, Shape({1, 2, 3}));
  EXPECT_EQ(part.offset, Shape({3, 0, 0}));
}

// Against counting the elements one by one.
TEST(FlatRanges, BoxesHoldTheElementsInOrder) {
  for (const Shape& shape : {Shape{7}, Shape{4, 5}, Shape{3, 1, 4}, Shape{2, 3, 2, 3}, Shape{}}) {
    const int64_t elements = shape.elements();
    for (int64_t begin = 0; begin <= elements; ++begin) {
      for (int64_t end = begin; end <= elements; ++end) {
        std::vector<int64_t> found;
        const std::vector<Block> boxes = boxes_of_flat_range(shape, begin, end);
        EXPECT_LE(static_cast<int>(boxes.size()), std::max(1, 2 * shape.rank() - 1));
        for (const Block& box : boxes) {
          for (int64_t i = 0; i < box.extent.elements(); ++i) {
            int64_t rest = i;
            int64_t flat = 0;
            int64_t stride = 1;
            for (int axis = shape.rank() - 1; axis >= 0; --axis) {
              flat += (box.begin[axis] + rest % box.extent[axis]) * stride;
              rest /= box.extent[axis];
              stride *= shape[axis];
            }
            found.push_back(flat);
          }
        }
        std::vector<int64_t> wanted(static_cast<size_t>(end - begin));
        std::iota(wanted.begin(), wanted.end(), begin);
        ASSERT_EQ(found, wanted) << shape.to_string() << " " << begin << ".." << end;
      }
    }
  }
}

TEST(ShardPlan, KeepsOrderAndLimitAndCutsLargeEntries) {
  std::vector<int32_t> values(100000);
  const std::vector<StateEntry> entries = {whole_entry("/a", view_of(values, {10, 10})),
                                           whole_entry("/b", view_of(values, {1000, 100})),
                                           whole_entry("/c", view_of(values, {0})),
                                           whole_entry("/d", view_of(values, {3, 7000})),
                                           {"/e", {4, 5}, {0, 0}, view_of(values, {0, 5})}};
  const uint64_t limit = 50000;
  int64_t next_row = 0;
  std::string names;
  for (const auto& shard : plan_shards(entries, limit)) {
    uint64_t bytes = ShardWriter::kFileOverhead;
    for (const StateEntry& piece : shard) {
      bytes += piece.bytes() + ShardWriter::kDatasetOverhead;
      if (names.empty() || names.back() != piece.name[1]) names += piece.name[1];
      if (piece.name == "/b") {
        EXPECT_EQ(piece.offset[0], next_row);
        next_row += piece.data.shape[0];
      }
    }
    EXPECT_LE(bytes, limit);
  }
  EXPECT_EQ(next_row, 1000);
  EXPECT_EQ(names, "abcd") << "an empty block of a tensor that is not empty is left out";
  EXPECT_EQ(plan_shards({whole_entry("/d", view_of(values, {3, 7000}))}, 10).size(), 3u) << "a row is never cut";
}

}  // namespace
}  // namespace cadre::launch
