#include "core/io/file.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fstream>

#include "core/error.h"
#include "tests/core/io/temporary_directory.h"

namespace cadre {
namespace {

namespace fs = std::filesystem;
using testing::message_of;
using testing::TemporaryDirectory;

size_t entries_in(const fs::path& directory) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

TEST(AtomicWrite, ReplacesContentsAndLeavesNothingElse) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "manifest.json";
  atomic_write(path, bytes_of("first"));
  atomic_write(path, bytes_of("second, longer"));
  EXPECT_EQ(read_file(path, 100), "second, longer");
  EXPECT_EQ(entries_in(directory.path()), 1u);
}

TEST(AtomicWrite, VanishedDirectoryIsNamed) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "gone" / "manifest.json";
  const std::string message = message_of<CheckpointError>([&] { atomic_write(path, bytes_of("text")); });
  EXPECT_NE(message.find(path.string()), std::string::npos) << message;
  EXPECT_NE(message.find("No such file or directory"), std::string::npos) << message;
}

// A file-size limit stands for a full disk: the write fails midway, with a partial file behind it.
int exit_code_of_write_past_limit(const fs::path& path) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      atomic_write(path, bytes_of(std::string(100000, 'x')));
    } catch (const CheckpointError& error) {
      const std::string message = error.what();
      _exit(message.find("File too large") != std::string::npos && message.find(path.string()) != std::string::npos
                ? 4
                : 2);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(AtomicWrite, FailedWriteKeepsTheOldContentsAndRemovesItsOwn) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "shard.h5";
  atomic_write(path, bytes_of("old"));
  EXPECT_EQ(exit_code_of_write_past_limit(path), 4);
  EXPECT_EQ(read_file(path, 100), "old");
  EXPECT_EQ(entries_in(directory.path()), 1u);
}

TEST(DurableFile, RefusesToOverwriteAndRemovesWhatWasNotCommitted) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "shard.h5";
  {
    DurableFile file(path);
    file.write(bytes_of("half"));
    EXPECT_THROW(DurableFile{path}, CheckpointError);
  }
  EXPECT_FALSE(fs::exists(path));
  DurableFile file(path);
  file.commit();
  EXPECT_TRUE(fs::exists(path));
}

TEST(DurableFile, FollowsNoLink) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "link";
  fs::create_symlink("/dev/null", path);
  const std::string message = message_of<CheckpointError>([&] { DurableFile file(path); });
  EXPECT_NE(message.find("File exists"), std::string::npos) << message;
}

TEST(ReadFile, RefusesLargeMissingAndIrregularFiles) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "file";
  atomic_write(path, bytes_of("0123456789"));
  EXPECT_THROW(read_file(path, 9), CheckpointError);
  EXPECT_THROW(read_file(directory.path() / "none", 9), CheckpointError);
  EXPECT_THROW(read_file(directory.path(), 9), CheckpointError);
  EXPECT_THROW(MappedFile{directory.path()}, CheckpointError);
}

TEST(MappedFile, ShowsTheBytesAndSurvivesDeletion) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "file";
  atomic_write(path, bytes_of("0123456789"));
  const MappedFile file(path);
  fs::remove(path);
  ASSERT_EQ(file.bytes().size(), 10u);
  EXPECT_EQ(static_cast<char>(file.bytes()[9]), '9');
}

TEST(Directories, AreCreatedWithTheirParentsAndErrorsNameThem) {
  const TemporaryDirectory directory;
  const fs::path deep = directory.path() / "runs" / "a" / "checkpoints";
  create_directories_durably(deep);
  create_directories_durably(deep);
  EXPECT_TRUE(fs::is_directory(deep));
  atomic_write(directory.path() / "file", bytes_of("x"));
  const std::string message =
      message_of<CheckpointError>([&] { create_directories_durably(directory.path() / "file" / "below"); });
  EXPECT_NE(message.find("/file"), std::string::npos) << message;
}

}  // namespace
}  // namespace cadre
