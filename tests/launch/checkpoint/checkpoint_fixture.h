#pragma once
// A small training state whose every byte is known from its tensor's name, a version and its place, so that any rank of
// any layout can make its blocks and check what it reads.

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "launch/checkpoint/directory.h"
#include "launch/checkpoint/inspect.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/resume.h"
#include "launch/checkpoint/verify.h"
#include "launch/checkpoint/writer.h"
#include "parallel/comm/self.h"
#include "parallel/comm/thread.h"
#include "tests/core/io/temporary_directory.h"

namespace cadre::launch::testing {

using cadre::testing::message_of;
using cadre::testing::TemporaryDirectory;

struct KnownTensor {
  std::string name;
  Dtype dtype;
  Shape shape;
};

std::vector<KnownTensor> known_tensors();

// A rank's share of the state, with its storage.
struct KnownState {
  std::vector<Tensor> storage;
  std::vector<StateEntry> entries;
};
KnownState make_state(Allocator& allocator, int version, int rank = 0, int ranks = 1);

// Reads every tensor whole and checks every byte.
void expect_state(const std::filesystem::path& checkpoint, int version);

CheckpointHeader make_header(int64_t step, int version = 0);

// One rank saves one checkpoint, in shards of 28 KiB so that there are several.
SaveReport save_one(const std::filesystem::path& root, int64_t step, int version, CheckpointHooks hooks = {});
inline constexpr uint64_t kSmallShard = 28 << 10;

ResumeChoice choose(const std::filesystem::path& root, const std::string& policy = "auto");

// Runs `body` in a forked process; its exit code, or minus the signal that ended it.
int run_in_child(const std::function<int()>& body);

// Every file below a directory: name and contents, sorted.
std::vector<std::pair<std::string, std::string>> contents_of(const std::filesystem::path& directory);

}  // namespace cadre::launch::testing
