#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <numeric>
#include <thread>

#include "core/error.h"
#include "core/io/hdf5_shard_reader.h"
#include "core/io/hdf5_shard_writer.h"
#include "tests/core/io/temporary_directory.h"

namespace cadre {
namespace {

using testing::message_of;

constexpr Dtype kAllDtypes[] = {Dtype::kF64, Dtype::kF32, Dtype::kBF16, Dtype::kF16,
                                Dtype::kI64, Dtype::kI32, Dtype::kU16,  Dtype::kU8};

std::vector<uint8_t> pattern(size_t bytes, uint8_t seed = 1) {
  std::vector<uint8_t> values(bytes);
  for (size_t i = 0; i < bytes; ++i) values[i] = static_cast<uint8_t>(i * 37 + seed);
  return values;
}

TensorView view_of(void* data, Dtype dtype, Shape shape) { return {data, dtype, shape, shape.cols()}; }

std::vector<std::byte> copy(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

class ShardTest : public ::testing::Test {
 protected:
  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  ShardWriter writer_{*allocator_};
};

TEST_F(ShardTest, EveryDtypeAndRankReadsBack) {
  std::vector<std::vector<uint8_t>> data;
  std::vector<ShardDataset> datasets;
  const Shape shapes[] = {{}, {5}, {3, 5}, {2, 3, 5}, {2, 1, 3, 5}, {0}, {4, 0}};
  for (const Dtype dtype : kAllDtypes) {
    for (const Shape& shape : shapes) {
      data.push_back(
          pattern(static_cast<size_t>(shape.elements()) * size_of(dtype), static_cast<uint8_t>(data.size())));
      const std::string name = "/model/" + std::string(name_of(dtype)) + "." + std::to_string(data.size());
      datasets.push_back({name, dtype, shape, shape, shape, data.back().data()});
    }
  }
  const ShardReader reader(writer_.build(datasets), "shard");
  EXPECT_EQ(reader.list().size(), datasets.size());
  for (size_t i = 0; i < datasets.size(); ++i) {
    const ShardDataset& wanted = datasets[i];
    const ShardDataset found = reader.describe(wanted.path);
    EXPECT_EQ(found.dtype, wanted.dtype);
    EXPECT_EQ(found.shape, wanted.shape);
    EXPECT_EQ(found.global_shape, wanted.global_shape);
    EXPECT_EQ(found.offset, wanted.offset);
    std::vector<uint8_t> back(data[i].size(), 0xee);
    Shape zero = wanted.shape;
    for (int axis = 0; axis < zero.rank(); ++axis) zero = zero.with(axis, 0);
    reader.read(wanted.path, {zero, wanted.shape}, view_of(back.data(), wanted.dtype, wanted.shape), zero);
    EXPECT_EQ(back, data[i]) << wanted.path;
  }
}

TEST_F(ShardTest, BlocksGoToBlocksOfStridedViews) {
  std::vector<int32_t> source(6 * 7);
  std::iota(source.begin(), source.end(), 0);
  const ShardReader reader(writer_.build({{"/x", Dtype::kI32, {6, 7}, {12, 7}, {6, 0}, source.data()}}), "shard");
  std::vector<int32_t> target(5 * 10, -1);
  TensorView out = view_of(target.data(), Dtype::kI32, {5, 4});
  out.row_stride = 10;
  reader.read("/x", {{2, 3}, {3, 2}}, out, {1, 1});
  for (int row = 0; row < 5; ++row) {
    for (int column = 0; column < 10; ++column) {
      const bool inside = row >= 1 && row < 4 && column >= 1 && column < 3;
      EXPECT_EQ(target[row * 10 + column], inside ? (row + 1) * 7 + column + 2 : -1) << row << "," << column;
    }
  }
  EXPECT_THROW(reader.read("/x", {{5, 0}, {2, 7}}, view_of(target.data(), Dtype::kI32, {2, 7}), {0, 0}),
               CheckpointError);
}

TEST_F(ShardTest, SameDatasetsSameBytesWheneverBuilt) {
  const std::vector<uint8_t> data = pattern(4000);
  const std::vector<ShardDataset> datasets = {
      {"/model/layers.0.attention.query.weight", Dtype::kF32, {10, 100}, {10, 100}, {0, 0}, data.data()},
      {"/optimizer/layers.0.attention.query.weight/exp_avg", Dtype::kF32, {1000}, {1000}, {0}, data.data()}};
  const std::vector<std::byte> first = copy(writer_.build(datasets));
  const std::vector<uint8_t> larger = pattern(100000, 9);
  writer_.build({{"/other", Dtype::kU8, {100000}, {100000}, {0}, larger.data()}});  // dirties the reused memory
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5's times have a resolution of one second
  EXPECT_TRUE(first == copy(writer_.build(datasets)));
  ShardWriter other(*allocator_);
  EXPECT_TRUE(first == copy(other.build(datasets)));
}

TEST_F(ShardTest, ImageStaysWithinItsBoundAndMemoryIsReused) {
  const std::vector<uint8_t> data = pattern(64);
  std::vector<ShardDataset> datasets;
  for (int i = 0; i < 500; ++i) {
    const std::string name = "/optimizer/layers.3.moe.experts." + std::to_string(i) + ".w1/exp_avg_sq";
    datasets.push_back({name, Dtype::kF32, {4, 4}, {4, 4}, {0, 0}, data.data()});
  }
  const size_t bound = 500 * (64 + ShardWriter::kDatasetOverhead) + ShardWriter::kFileOverhead;
  EXPECT_LE(writer_.build(datasets).size(), bound);
  const size_t allocations = allocator_->stats().allocations;
  EXPECT_EQ(allocations, 1u);
  writer_.build(datasets);
  EXPECT_EQ(allocator_->stats().allocations, allocations);
}

TEST_F(ShardTest, ErrorsNameFileAndDatasetAndPrintNothing) {
  const std::vector<uint8_t> data = pattern(64);
  ::testing::internal::CaptureStderr();
  const std::string twice = message_of<CheckpointError>([&] {
    const ShardDataset item{"/model/x", Dtype::kU8, {64}, {64}, {0}, data.data()};
    writer_.build({item, item});
  });
  EXPECT_NE(twice.find("/model/x"), std::string::npos) << twice;
  const std::vector<std::byte> image = copy(writer_.build({{"/model/x", Dtype::kU8, {64}, {64}, {0}, data.data()}}));
  const ShardReader reader(image, "shard-00000-of-00001.h5");
  const std::string missing = message_of<CheckpointError>([&] { reader.describe("/model/y"); });
  EXPECT_NE(missing.find("shard-00000-of-00001.h5/model/y"), std::string::npos) << missing;
  const std::string truncated = "this is not HDF5 at all";
  EXPECT_THROW(ShardReader(bytes_of(truncated), "shard"), CheckpointError);
  EXPECT_THROW(ShardReader({}, "shard"), CheckpointError);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST_F(ShardTest, ReaderNeitherCopiesNorChangesTheImage) {
  const std::vector<uint8_t> data = pattern(1 << 16);
  const testing::TemporaryDirectory directory;
  const auto path = directory.path() / "shard.h5";
  atomic_write(path, writer_.build({{"/x", Dtype::kU8, {1 << 16}, {1 << 16}, {0}, data.data()}}));
  const MappedFile file(path);  // a write to a read-only mapping would end the test
  std::vector<uint8_t> back(data.size());
  const ShardReader reader(file.bytes(), path.string());
  reader.read("/x", {{0}, {1 << 16}}, view_of(back.data(), Dtype::kU8, {1 << 16}), {0});
  EXPECT_EQ(back, data);
}

TEST_F(ShardTest, ManyThreadsBuildAndReadAtOnce) {
  std::vector<std::thread> threads;
  std::vector<int> right(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      ShardWriter writer(*allocator_);
      for (int round = 0; round < 10; ++round) {
        const std::vector<uint8_t> data = pattern(1000, static_cast<uint8_t>(t * 10 + round));
        const ShardReader reader(writer.build({{"/x", Dtype::kU8, {1000}, {1000}, {0}, data.data()}}), "shard");
        std::vector<uint8_t> back(1000);
        reader.read("/x", {{0}, {1000}}, view_of(back.data(), Dtype::kU8, {1000}), {0});
        right[t] += back == data;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, std::vector<int>(4, 10));
}

TEST_F(ShardTest, ReadableByH5dump) {
  if (std::system("h5dump --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "h5dump is not installed";
  const testing::TemporaryDirectory directory;
  const uint16_t halves[] = {0x3c00, 0xc000, 0x3555};  // 1, -2, about 1/3
  const auto path = directory.path() / "shard.h5";
  atomic_write(path, writer_.build({{"/model/layers.3.moe.experts.17.w1", Dtype::kF16, {3}, {6}, {3}, halves}}));
  const auto text = directory.path() / "text";
  ASSERT_EQ(std::system(("h5dump " + path.string() + " > " + text.string()).c_str()), 0);
  const std::string dump = read_file(text, 1 << 20);
  for (const char* wanted :
       {"GROUP \"model\"", "DATASET \"layers.3.moe.experts.17.w1\"", "1, -2, 0.33", "global_shape", "f16"}) {
    EXPECT_NE(dump.find(wanted), std::string::npos) << wanted << " not in\n" << dump;
  }
}

}  // namespace
}  // namespace cadre
