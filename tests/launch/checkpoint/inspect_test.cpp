#include "launch/checkpoint/inspect.h"

#include <cmath>

#include "core/io/file.h"
#include "tests/launch/checkpoint/checkpoint_fixture.h"

namespace cadre::launch::testing {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

fs::path save_values(const fs::path& root, const std::vector<StateEntry>& entries, CheckpointHeader header) {
  const auto allocator = make_host_allocator();
  const auto communicator = parallel::make_self_communicator();
  CheckpointWriter writer({root, kSmallShard, {}}, *communicator, *allocator);
  return writer.save(header, entries).directory;
}

TEST(Info, ListsTensorsSizesAndState) {
  const TemporaryDirectory root;
  save_one(root.path(), 12, 1);
  const Inspection info = checkpoint_info(root.path() / "step-00000012");
  for (const char* wanted : {"run-a", "step         12", "/model/layers.0.moe.experts.1.w1", "bf16", "[13, 7]", "182",
                             "tokens: 18446744073709551615"}) {
    EXPECT_TRUE(contains(info.text, wanted)) << wanted << " not in\n" << info.text;
  }
  EXPECT_THROW(checkpoint_info(root.path()), CheckpointError);
}

TEST(Check, ReportsEachFile) {
  const TemporaryDirectory root;
  save_one(root.path(), 12, 1);
  const fs::path checkpoint = root.path() / "step-00000012";
  EXPECT_TRUE(checkpoint_check(checkpoint).ok);
  fs::remove(checkpoint / contents_of(checkpoint).at(1).first);
  atomic_write(checkpoint / "notes", bytes_of("x"));
  const Inspection found = checkpoint_check(checkpoint);
  EXPECT_FALSE(found.ok);
  EXPECT_TRUE(contains(found.text, "BAD shard-00000-of-")) << found.text;
  EXPECT_TRUE(contains(found.text, "BAD notes")) << found.text;
  EXPECT_TRUE(contains(found.text, "ok  shard-00001-of-")) << found.text;
  EXPECT_FALSE(checkpoint_check(root.path() / "none").ok);
}

TEST(Diff, IdenticalWhateverTheLayoutAndTheRunId) {
  const TemporaryDirectory first;
  const TemporaryDirectory second;
  const fs::path a = save_one(first.path(), 12, 1).directory;
  parallel::ThreadWorld(3).run([&](parallel::Communicator& communicator) {
    const auto allocator = make_host_allocator();
    CheckpointWriter writer({second.path(), 1 << 20, {}}, communicator, *allocator);
    CheckpointHeader header = make_header(12, 1);
    header.run_id = "run-b";
    header.state["time"] = "later";
    writer.save(header, make_state(*allocator, 1, communicator.rank(), 3).entries);
  });
  const Inspection same = checkpoint_diff(a, second.path() / "step-00000012");
  EXPECT_TRUE(same.ok) << same.text;
  EXPECT_TRUE(contains(same.text, "identical"));
}

TEST(Diff, NamesTensorsAndStateKeysThatDiffer) {
  const TemporaryDirectory root;
  std::vector<float> x = {1, 2, 3, 4};
  std::vector<uint16_t> bf16 = {0x3f80, 0x4000};
  std::vector<uint16_t> f16 = {0x3c00, 0x0001};
  CheckpointHeader header = make_header(1);
  header.state["data"] = {{"position", 5}, {"epoch", 0}};
  const auto save = [&](const char* folder, bool extra) {
    std::vector<StateEntry> entries = {whole_entry("/x", {x.data(), Dtype::kF32, {2, 2}, 2}),
                                       whole_entry("/bf16", {bf16.data(), Dtype::kBF16, {2}, 2}),
                                       whole_entry("/f16", {f16.data(), Dtype::kF16, {2}, 2})};
    entries.push_back(whole_entry("/shape", {x.data(), Dtype::kF32, {extra ? 2 : 3}, extra ? 2 : 3}));
    if (extra) entries.push_back(whole_entry("/extra", {x.data(), Dtype::kF32, {4}, 4}));
    return save_values(root.path() / folder, entries, header);
  };
  const fs::path a = save("a", false);
  x[1] = 2.5;
  x[3] = -4;
  bf16[1] = 0x4040;
  f16[0] = 0xfe00;  // not a number
  header.state["data"]["position"] = 6;
  const Inspection found = checkpoint_diff(a, save("b", true));
  EXPECT_FALSE(found.ok);
  for (const char* wanted :
       {"/x: 2 of 4 elements differ, by at most 8\n", "/bf16: 1 of 2 elements differ, by at most 1\n",
        "/f16: 1 of 2 elements differ, by at most inf\n", "/shape: f32 [3] and f32 [2]\n",
        "/extra: only in the second\n", "state.data.position: 5 and 6\n"}) {
    EXPECT_TRUE(contains(found.text, wanted)) << wanted << " not in\n" << found.text;
  }
  EXPECT_FALSE(contains(found.text, "epoch"));
}

}  // namespace
}  // namespace cadre::launch::testing
