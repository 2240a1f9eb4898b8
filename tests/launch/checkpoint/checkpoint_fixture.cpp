#include "tests/launch/checkpoint/checkpoint_fixture.h"

#include <sys/wait.h>

#include <algorithm>

#include "core/io/file.h"

namespace cadre::launch::testing {
namespace {

namespace fs = std::filesystem;

void fill(void* data, size_t bytes, const std::string& name, int version) {
  uint64_t seed = std::hash<std::string>()(name) + static_cast<uint64_t>(version) * 977;
  auto* position = static_cast<uint8_t*>(data);
  for (size_t i = 0; i < bytes; ++i) position[i] = static_cast<uint8_t>((seed + i * 2654435761u) >> 13);
}

}  // namespace

std::vector<KnownTensor> known_tensors() {
  return {{"/model/embedding", Dtype::kF32, {37, 11}},
          {"/model/layers.0.moe.experts.0.w1", Dtype::kBF16, {13, 7}},
          {"/model/layers.0.moe.experts.1.w1", Dtype::kBF16, {13, 7}},
          {"/model/layers.0.router.bias", Dtype::kF64, {5}},
          {"/model/scale", Dtype::kF16, {}},
          {"/model/empty", Dtype::kF32, {0, 8}},
          {"/optimizer/embedding/exp_avg", Dtype::kF32, {37, 11}},
          {"/optimizer/embedding/exp_avg_sq", Dtype::kF32, {4, 3, 5, 70}},
          {"/state/tokens_per_expert", Dtype::kI64, {2, 3}}};
}

KnownState make_state(Allocator& allocator, int version, int rank, int ranks) {
  KnownState state;
  std::vector<StateEntry> all;
  for (const KnownTensor& known : known_tensors()) {
    state.storage.push_back(Tensor::empty(allocator, known.dtype, known.shape));
    fill(state.storage.back().raw(), state.storage.back().bytes(), known.name, version);
    all.push_back(whole_entry(known.name, state.storage.back()));
  }
  for (const StateEntry& entry : all) {
    const bool whole = entry.data.shape.rank() == 0 || entry.data.shape[0] == 0;
    const int64_t rows = whole ? 0 : entry.data.shape[0];
    const int64_t begin = rows * rank / ranks, end = rows * (rank + 1) / ranks;
    if (whole && rank == 0) state.entries.push_back(entry);
    if (begin < end) state.entries.push_back(rows_of(entry, begin, end));
  }
  return state;
}

void expect_state(const fs::path& checkpoint, int version) {
  CheckpointReader reader(checkpoint);
  EXPECT_EQ(reader.manifest().tensors.size(), known_tensors().size());
  for (const KnownTensor& known : known_tensors()) {
    const size_t bytes = static_cast<size_t>(known.shape.elements()) * size_of(known.dtype);
    std::vector<uint8_t> wanted(bytes);
    std::vector<uint8_t> found(bytes, 0xaa);
    fill(wanted.data(), bytes, known.name, version);
    reader.read(known.name, {found.data(), known.dtype, known.shape, known.shape.cols()});
    EXPECT_EQ(found, wanted) << known.name;
  }
}

CheckpointHeader make_header(int64_t step, int version) {
  CheckpointHeader header;
  header.run_id = "run-a";
  header.step = step;
  header.config_hash = "c0ffee";
  header.state = {{"tokens", 18446744073709551615u}, {"loss_scale", 0.1 + 0.2}, {"version", version}, {"time", "now"}};
  return header;
}

SaveReport save_one(const fs::path& root, int64_t step, int version, CheckpointHooks hooks) {
  const auto allocator = make_host_allocator();
  const auto communicator = parallel::make_self_communicator();
  CheckpointWriter writer({root, kSmallShard, std::move(hooks)}, *communicator, *allocator);
  return writer.save(make_header(step, version), make_state(*allocator, version).entries);
}

ResumeChoice choose(const fs::path& root, const std::string& policy) {
  return choose_checkpoint(root, parse_resume(policy), *parallel::make_self_communicator());
}

int run_in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (const std::exception& failure) {
      fprintf(stderr, "child: %s\n", failure.what());
    }
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

std::vector<std::pair<std::string, std::string>> contents_of(const fs::path& directory) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const auto& item : fs::directory_iterator(directory)) {
    files.emplace_back(item.path().filename().string(), read_file(item.path(), 1 << 30));
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace cadre::launch::testing
