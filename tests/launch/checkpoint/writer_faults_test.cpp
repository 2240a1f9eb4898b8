// Failures while saving: full disk, directories that cannot be written, death at every phase.

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <fstream>

#include "core/io/file.h"
#include "tests/launch/checkpoint/checkpoint_fixture.h"

namespace cadre::launch::testing {
namespace {

namespace fs = std::filesystem;

// Version 1 as step 1 is there; saving step 2 dies in `phase`.
void expect_resume_after_death(SavePhase phase) {
  const TemporaryDirectory root;
  save_one(root.path(), 1, 1);
  const CheckpointHooks deadly{[phase](SavePhase reached) {
    if (reached == phase) kill(getpid(), SIGKILL);
  }};
  const int ended = run_in_child([&] {
    save_one(root.path(), 2, 2, deadly);
    return 0;
  });
  ASSERT_EQ(ended, -SIGKILL);
  const bool published = phase == SavePhase::kPublished;
  const ResumeChoice choice = choose(root.path());
  ASSERT_TRUE(choice.checkpoint);
  EXPECT_EQ(choice.checkpoint->filename(), published ? "step-00000002" : "step-00000001");
  expect_state(*choice.checkpoint, published ? 2 : 1);
  save_one(root.path(), 2, 3);
  expect_state(*choose(root.path(), "must").checkpoint, 3);
}

TEST(DeathWhileSaving, InTheData) { expect_resume_after_death(SavePhase::kShardHalfWritten); }
TEST(DeathWhileSaving, AfterTheData) { expect_resume_after_death(SavePhase::kShardsWritten); }
TEST(DeathWhileSaving, InTheManifest) { expect_resume_after_death(SavePhase::kManifestHalfWritten); }
TEST(DeathWhileSaving, JustBeforePublishing) { expect_resume_after_death(SavePhase::kManifestWritten); }
TEST(DeathWhileSaving, BeforeTheRename) { expect_resume_after_death(SavePhase::kSetAside); }
TEST(DeathWhileSaving, AfterTheRename) { expect_resume_after_death(SavePhase::kPublished); }

TEST(DeathWhileSaving, BetweenTheTwoRenamesOfAStepSavedAgain) {
  const TemporaryDirectory root;
  save_one(root.path(), 1, 1);
  const CheckpointHooks deadly{[](SavePhase reached) {
    if (reached == SavePhase::kSetAside) kill(getpid(), SIGKILL);
  }};
  ASSERT_EQ(run_in_child([&] { return save_one(root.path(), 1, 2, deadly).step == 1 ? 0 : 1; }), -SIGKILL);
  EXPECT_FALSE(fs::exists(root.path() / "step-00000001"));
  const ResumeChoice choice = choose(root.path());
  ASSERT_TRUE(choice.checkpoint);
  expect_state(*choice.checkpoint, 1);
  EXPECT_TRUE(prune(root.path(), {1, 0}).empty());
  expect_state(*choose(root.path(), "must").checkpoint, 1);
  save_one(root.path(), 2, 2);
  prune(root.path(), {1, 0});
  EXPECT_EQ(list_steps(root.path()).size(), 1u);
}

// 4 means: CheckpointError, the earlier checkpoint still valid, nothing left behind, and a later save works.
int outcome_of_failing_save(const fs::path& root, const std::string& wanted, const std::function<void()>& repair) {
  int64_t failures = 0;
  const auto allocator = make_host_allocator();
  const auto communicator = parallel::make_self_communicator();
  CheckpointWriter writer({root, kSmallShard, {}}, *communicator, *allocator);
  const KnownState state = make_state(*allocator, 2);
  try {
    writer.save(make_header(2), state.entries);
  } catch (const CheckpointError& error) {
    fprintf(stderr, "%s\n", error.what());
    if (std::string(error.what()).find(wanted) != std::string::npos) ++failures;
  }
  repair();
  if (failures != 1) return 1;
  if (choose(root, "must").checkpoint->filename() != "step-00000001") return 2;
  if (fs::exists(root / "step-00000002.tmp")) return 3;
  writer.save(make_header(2), state.entries);
  return choose(root, "must").checkpoint->filename() == "step-00000002" ? 4 : 5;
}

TEST(FullDisk, FileSizeLimitInTheMiddleOfAShard) {
  const TemporaryDirectory root;
  save_one(root.path(), 1, 1);
  const int code = run_in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{3000, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
    return outcome_of_failing_save(root.path(), "File too large", [] {
      const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
      setrlimit(RLIMIT_FSIZE, &none);
    });
  });
  EXPECT_EQ(code, 4);
}

TEST(FullDisk, NoSpaceLeft) {
  const TemporaryDirectory root;
  const int code = run_in_child([&] {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", root.path().c_str(), "tmpfs", 0, "size=128k") != 0) {
      return 77;
    }
    save_one(root.path(), 1, 1);
    const fs::path ballast = root.path() / "ballast";
    std::ofstream(ballast) << std::string(1 << 20, 'x');
    fs::resize_file(ballast, fs::file_size(ballast) - 8192);
    return outcome_of_failing_save(root.path(), "No space left on device", [&] { fs::remove(ballast); });
  });
  if (code == 77) GTEST_SKIP() << "mounting a small file system needs root";
  EXPECT_EQ(code, 4);
}

TEST(FullDisk, OnOneRankOnlyAllRanksLearnIt) {
  const TemporaryDirectory root;
  save_one(root.path(), 1, 1);
  for (const SavePhase phase : {SavePhase::kShardHalfWritten, SavePhase::kShardsWritten}) {
    parallel::ThreadWorld(3).run([&](parallel::Communicator& communicator) {
      const auto allocator = make_host_allocator();
      bool full = communicator.rank() == 2;
      const CheckpointHooks hooks{[&](SavePhase reached) {
        if (full && reached == phase) throw CheckpointError("shard: cannot write: No space left on device");
      }};
      CheckpointWriter writer({root.path(), kSmallShard, hooks}, communicator, *allocator);
      const KnownState state = make_state(*allocator, 2, communicator.rank(), 3);
      const std::string message = message_of<CheckpointError>([&] { writer.save(make_header(2), state.entries); });
      EXPECT_EQ(message, "checkpoint of step 2 not saved: rank 2: shard: cannot write: No space left on device");
      full = false;
      communicator.barrier({"test"});
      EXPECT_FALSE(communicator.rank() == 0 && fs::exists(root.path() / "step-00000002.tmp"));
      communicator.barrier({"test"});
      writer.save(make_header(2), state.entries);
    });
    expect_state(*choose(root.path()).checkpoint, 2);
    fs::remove_all(root.path() / "step-00000002");
  }
}

TEST(Directories, VanishedWhileSavingIsAnErrorOnEveryRank) {
  const TemporaryDirectory root;
  const fs::path directory = root.path() / "checkpoints";
  parallel::ThreadWorld(2).run([&](parallel::Communicator& communicator) {
    const auto allocator = make_host_allocator();
    const CheckpointHooks hooks{[&](SavePhase reached) {
      if (reached == SavePhase::kShardsWritten && communicator.rank() == 0) fs::remove_all(directory);
    }};
    CheckpointWriter writer({directory, kSmallShard, hooks}, communicator, *allocator);
    const KnownState state = make_state(*allocator, 2, communicator.rank(), 2);
    const std::string message = message_of<CheckpointError>([&] { writer.save(make_header(2), state.entries); });
    EXPECT_NE(message.find("checkpoints"), std::string::npos) << message;
    EXPECT_NE(message.find("No such file or directory"), std::string::npos) << message;
  });
}

TEST(Directories, WhatCannotBeCreatedIsAnErrorAtOnceOnEveryRank) {
  const TemporaryDirectory root;
  atomic_write(root.path() / "file", bytes_of("in the way"));
  parallel::ThreadWorld(2).run([&](parallel::Communicator& communicator) {
    const auto allocator = make_host_allocator();
    CheckpointWriter writer({root.path() / "file" / "checkpoints", kSmallShard, {}}, communicator, *allocator);
    const KnownState state = make_state(*allocator, 2, communicator.rank(), 2);
    const std::string message = message_of<CheckpointError>([&] { writer.begin(make_header(2), state.entries); });
    EXPECT_NE(message.find("rank 0: "), std::string::npos) << message;
    EXPECT_FALSE(writer.busy());
  });
}

TEST(Directories, ReadOnly) {
  const TemporaryDirectory root;
  const int code = run_in_child([&] {
    if (getuid() == 0) {  // root writes everywhere but on a read-only mount
      if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          mount("tmpfs", root.path().c_str(), "tmpfs", MS_RDONLY, "size=64k") != 0) {
        return 77;
      }
    } else {
      fs::permissions(root.path(), fs::perms::owner_read | fs::perms::owner_exec);
    }
    try {
      save_one(root.path(), 1, 1);
    } catch (const CheckpointError& error) {
      return std::string(error.what()).find(root.path().string()) != std::string::npos ? 4 : 1;
    }
    return 0;
  });
  if (getuid() != 0) fs::permissions(root.path(), fs::perms::owner_all);
  if (code == 77) GTEST_SKIP() << "no mount namespaces here";
  EXPECT_EQ(code, 4);
}

TEST(Ranks, DifferentStepsAreRefused) {
  const TemporaryDirectory root;
  parallel::ThreadWorld(2).run([&](parallel::Communicator& communicator) {
    const auto allocator = make_host_allocator();
    CheckpointWriter writer({root.path(), kSmallShard, {}}, communicator, *allocator);
    EXPECT_THROW(writer.begin(make_header(communicator.rank()), {}), CheckpointError);
  });
}

}  // namespace
}  // namespace cadre::launch::testing
