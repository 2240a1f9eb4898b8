#include "launch/checkpoint/writer.h"

#include <cstring>
#include <mutex>

#include "core/io/file.h"
#include "tests/launch/checkpoint/checkpoint_fixture.h"

namespace cadre::launch::testing {
namespace {

namespace fs = std::filesystem;

void save_on(int ranks, const fs::path& root, int64_t step, int version) {
  parallel::ThreadWorld(ranks).run([&](parallel::Communicator& communicator) {
    const auto allocator = make_host_allocator();
    CheckpointWriter writer({root, kSmallShard, {}}, communicator, *allocator);
    const KnownState state = make_state(*allocator, version, communicator.rank(), ranks);
    const SaveReport report = writer.save(make_header(step, version), state.entries);
    EXPECT_EQ(report.directory, root / step_name(step));
    EXPECT_GT(report.bytes, 10000u);
  });
}

TEST(CheckpointWriter, SavesWhatTheReaderReadsOnAnyNumberOfRanks) {
  for (const int ranks : {1, 2, 3, 5}) {
    const TemporaryDirectory root;
    save_on(ranks, root.path(), 100, ranks);
    expect_state(root.path() / "step-00000100", ranks);
    const Inspection checked = checkpoint_check(root.path());
    EXPECT_TRUE(checked.ok) << checked.text;
    EXPECT_FALSE(fs::exists(root.path() / "step-00000100.tmp"));
    for (const auto& item : fs::directory_iterator(root.path() / "step-00000100")) {
      EXPECT_LE(item.file_size(), kSmallShard) << item.path();
    }
  }
}

TEST(CheckpointWriter, AnyBlockIsReadFromAnyLayout) {
  const TemporaryDirectory root;
  save_on(3, root.path(), 1, 7);
  CheckpointReader reader(root.path() / "step-00000001");
  const std::string name = "/optimizer/embedding/exp_avg_sq";
  const Shape shape = {4, 3, 5, 70};
  std::vector<float> whole(static_cast<size_t>(shape.elements()));
  reader.read(name, {whole.data(), Dtype::kF32, shape, 70});
  std::vector<float> block(3 * 2 * 4 * 64, -1);
  reader.read(name, {1, 1, 0, 5}, {block.data(), Dtype::kF32, {3, 2, 4, 60}, 64});
  for (int64_t row = 0; row < 3 * 2 * 4; ++row) {
    const int64_t a = 1 + row / 8, b = 1 + row / 4 % 2, c = row % 4;
    EXPECT_EQ(std::memcmp(&block[row * 64], &whole[((a * 3 + b) * 5 + c) * 70 + 5], 60 * sizeof(float)), 0) << row;
  }
  std::vector<float> flat(777);
  reader.read_flat(name, 1234, {flat.data(), Dtype::kF32, {777}, 777});
  EXPECT_EQ(std::memcmp(flat.data(), &whole[1234], 777 * sizeof(float)), 0);
}

TEST(CheckpointReader, WrongRequestsNameTheTensorAndTheNearest) {
  const TemporaryDirectory root;
  save_one(root.path(), 1, 0);
  CheckpointReader reader(root.path() / "step-00000001");
  std::vector<float> out(37 * 11);
  const std::string missing = message_of<CheckpointError>([&] {
    reader.read("/model/embeding", {out.data(), Dtype::kF32, {37, 11}, 11});
  });
  EXPECT_NE(missing.find("/model/embeding; nearest is /model/embedding"), std::string::npos) << missing;
  EXPECT_THROW(reader.read("/model/embedding", {out.data(), Dtype::kI32, {37, 11}, 11}), CheckpointError);
  EXPECT_THROW(reader.read("/model/embedding", {out.data(), Dtype::kF32, {11, 37}, 37}), CheckpointError);
  EXPECT_THROW(reader.read("/model/embedding", {30, 0}, {out.data(), Dtype::kF32, {8, 11}, 11}), CheckpointError);
  EXPECT_THROW(reader.read_flat("/model/embedding", 400, {out.data(), Dtype::kF32, {8}, 8}), CheckpointError);
}

TEST(CheckpointWriter, FlatShardsAndStridedRowsFormOneTensor) {
  const TemporaryDirectory root;
  const int ranks = 3;
  std::vector<float> whole(7 * 5);
  for (size_t i = 0; i < whole.size(); ++i) whole[i] = static_cast<float>(i);
  parallel::ThreadWorld(ranks).run([&](parallel::Communicator& communicator) {
    const auto allocator = make_host_allocator();
    CheckpointWriter writer({root.path(), kSmallShard, {}}, communicator, *allocator);
    const int64_t begin = 35 * communicator.rank() / ranks;
    const int64_t count = 35 * (communicator.rank() + 1) / ranks - begin;
    auto entries = flat_entries("/optimizer/x", {7, 5}, begin, {&whole[begin], Dtype::kF32, {count}, count});
    if (communicator.rank() == 1) {
      entries.push_back(whole_entry("/model/columns", {&whole[1], Dtype::kF32, {7, 2}, 5}));
    }
    writer.save(make_header(1), entries);
  });
  CheckpointReader reader(root.path() / "step-00000001");
  std::vector<float> found(35);
  reader.read("/optimizer/x", {found.data(), Dtype::kF32, {7, 5}, 5});
  EXPECT_EQ(found, whole);
  std::vector<float> columns(14);
  reader.read("/model/columns", {columns.data(), Dtype::kF32, {7, 2}, 2});
  for (int i = 0; i < 14; ++i) EXPECT_EQ(columns[i], whole[i / 2 * 5 + 1 + i % 2]);
}

TEST(CheckpointWriter, SameStateSameBytes) {
  const TemporaryDirectory first;
  const TemporaryDirectory second;
  save_on(2, first.path(), 5, 3);
  save_on(2, second.path(), 5, 3);
  EXPECT_EQ(contents_of(first.path() / "step-00000005"), contents_of(second.path() / "step-00000005"));
}

TEST(CheckpointWriter, TrainingMayChangeTheTensorsOnceBegun) {
  const TemporaryDirectory root;
  const auto allocator = make_host_allocator();
  const auto communicator = parallel::make_self_communicator();
  std::mutex gate;
  CheckpointHooks hooks{[&](SavePhase phase) {
    if (phase == SavePhase::kShardHalfWritten) const std::lock_guard wait(gate);
  }};
  CheckpointWriter writer({root.path(), kSmallShard, hooks}, *communicator, *allocator);
  KnownState state = make_state(*allocator, 1);
  EXPECT_TRUE(writer.locally_done());
  {
    const std::lock_guard hold(gate);
    writer.begin(make_header(1), state.entries);
    EXPECT_TRUE(writer.busy());
    EXPECT_FALSE(writer.locally_done());
    EXPECT_THROW(writer.begin(make_header(2), state.entries), InternalError);
    for (Tensor& tensor : state.storage) std::memset(tensor.raw(), 0xff, tensor.bytes());
  }
  writer.publish();
  EXPECT_FALSE(writer.busy());
  expect_state(root.path() / "step-00000001", 1);
  const size_t allocations = allocator->stats().allocations;
  writer.save(make_header(2), state.entries);
  EXPECT_EQ(allocator->stats().allocations, allocations) << "snapshot and image memory are used again";
}

TEST(CheckpointWriter, AStepSavedAgainReplacesTheFormerOne) {
  const TemporaryDirectory root;
  save_one(root.path(), 8, 1);
  save_one(root.path(), 8, 2);
  expect_state(root.path() / "step-00000008", 2);
  EXPECT_EQ(contents_of(root.path() / "step-00000008").back().first.substr(0, 6), "shard-");
  EXPECT_EQ(list_steps(root.path()).size(), 1u);
}

TEST(CheckpointWriter, LeftoversOfADeadProcessAreNotPublished) {
  const TemporaryDirectory root;
  fs::create_directories(root.path() / "step-00000003.tmp");
  atomic_write(root.path() / "step-00000003.tmp" / "shard-00099-of-00100.h5", bytes_of("stale"));
  atomic_write(root.path() / "step-00000003.tmp" / "manifest.json", bytes_of("stale"));
  save_one(root.path(), 3, 4);
  EXPECT_TRUE(checkpoint_check(root.path() / "step-00000003").ok);
}

// The caller's mistakes: the ranks' blocks must be disjoint and complete.
TEST(CheckpointWriter, OverlapsAndGapsAreRefusedOnEveryRank) {
  const TemporaryDirectory root;
  std::vector<float> data(100);
  for (const bool gap : {false, true}) {
    parallel::ThreadWorld(2).run([&](parallel::Communicator& communicator) {
      const auto allocator = make_host_allocator();
      CheckpointWriter writer({root.path(), kSmallShard, {}}, communicator, *allocator);
      const int64_t begin = communicator.rank() * (gap ? 6 : 4);
      const StateEntry entry{"/model/x", {gap ? 12 : 9, 2}, {begin, 0}, {data.data(), Dtype::kF32, {5, 2}, 2}};
      const std::string message = message_of<CheckpointError>([&] { writer.save(make_header(1), {entry}); });
      EXPECT_NE(message.find("/model/x"), std::string::npos) << message;
      EXPECT_NE(message.find(gap ? "elements" : "overlap"), std::string::npos) << message;
    });
    EXPECT_TRUE(fs::is_empty(root.path()));
  }
}

}  // namespace
}  // namespace cadre::launch::testing
