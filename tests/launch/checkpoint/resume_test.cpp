#include "launch/checkpoint/resume.h"

#include <fstream>

#include "core/io/file.h"
#include "tests/launch/checkpoint/checkpoint_fixture.h"

namespace cadre::launch::testing {
namespace {

namespace fs = std::filesystem;

class ResumeTest : public ::testing::Test {
 protected:
  ResumeTest() {
    save_one(root(), 100, 1);
    save_one(root(), 200, 2);
  }
  const fs::path& root() const { return root_.path(); }
  fs::path newest() const { return root() / "step-00000200"; }

  // Step 200 is passed over, with a line naming `file`; step 100 is used.
  void expect_older(const std::string& file) {
    const ResumeChoice choice = choose(root());
    ASSERT_TRUE(choice.checkpoint) << file;
    EXPECT_EQ(choice.checkpoint->filename(), "step-00000100");
    ASSERT_EQ(choice.skipped.size(), 1u);
    EXPECT_NE(choice.skipped[0].find("step-00000200"), std::string::npos) << choice.skipped[0];
    EXPECT_NE(choice.skipped[0].find(file), std::string::npos) << choice.skipped[0];
    EXPECT_EQ(choice.skipped[0].find('\n'), std::string::npos);
    EXPECT_FALSE(checkpoint_check(newest()).ok);
    EXPECT_TRUE(checkpoint_check(root() / "step-00000100").ok);
    const std::string must = message_of<CheckpointError>([&] { choose(root(), newest().string()); });
    EXPECT_NE(must.find(file), std::string::npos) << must;
  }

  static void overwrite(const fs::path& path, const std::string& contents) {
    std::ofstream(path, std::ios::binary) << contents;
  }
  static std::string contents(const fs::path& path) { return read_file(path, 1 << 30); }

 private:
  TemporaryDirectory root_;
};

TEST_F(ResumeTest, NewestValidIsUsedAndReadsBack) {
  const ResumeChoice choice = choose(root());
  ASSERT_TRUE(choice.checkpoint);
  EXPECT_TRUE(choice.skipped.empty());
  expect_state(*choice.checkpoint, 2);
}

TEST_F(ResumeTest, TruncatedFilesAreRejected) {
  for (const auto& [name, whole] : contents_of(newest())) {
    for (const size_t size : {whole.size() - 1, whole.size() / 2, size_t{0}}) {
      overwrite(newest() / name, whole.substr(0, size));
      expect_older(name);
    }
    overwrite(newest() / name, whole + "x");
    expect_older(name);
    overwrite(newest() / name, whole);
  }
  EXPECT_TRUE(choose(root()).skipped.empty());
}

TEST_F(ResumeTest, FlippedBitsAreRejectedWhereverTheyAre) {
  for (const auto& [name, whole] : contents_of(newest())) {
    for (const size_t at : {size_t{3}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
      std::string damaged = whole;
      damaged[at] ^= 0x10;
      overwrite(newest() / name, damaged);
      expect_older(name);
      if (name != kManifestName) {
        CheckpointReader reader(newest());
        int failures = 0;
        for (const KnownTensor& known : known_tensors()) {
          std::vector<uint8_t> out(static_cast<size_t>(known.shape.elements()) * size_of(known.dtype));
          try {
            reader.read(known.name, {out.data(), known.dtype, known.shape, known.shape.cols()});
          } catch (const CheckpointError& error) {
            EXPECT_NE(std::string(error.what()).find("damaged"), std::string::npos) << error.what();
            ++failures;
          }
        }
        EXPECT_GT(failures, 0) << "the reader believed a damaged shard";
      }
    }
    overwrite(newest() / name, whole);
  }
}

TEST_F(ResumeTest, MissingExtraAndSwappedShardsAreRejected) {
  const auto files = contents_of(newest());
  ASSERT_GE(files.size(), 3u);
  const auto& [first_name, first] = files[1];
  const auto& [second_name, second] = files[2];
  fs::remove(newest() / first_name);
  expect_older(first_name);
  overwrite(newest() / first_name, second);
  overwrite(newest() / second_name, first);
  expect_older("shard-");
  overwrite(newest() / first_name, first);
  overwrite(newest() / second_name, second);
  overwrite(newest() / "shard-00077-of-00078.h5", first);
  expect_older("shard-00077-of-00078.h5");
  fs::remove(newest() / "shard-00077-of-00078.h5");
  fs::remove(newest() / kManifestName);
  expect_older(kManifestName);
}

TEST_F(ResumeTest, AManifestOfAnotherStepIsRejected) {
  fs::remove_all(newest());
  fs::copy(root() / "step-00000100", newest());
  expect_older(kManifestName);
}

TEST_F(ResumeTest, UnfinishedFoldersAreIgnoredWhateverTheyHold) {
  fs::copy(newest(), root() / "step-00000300.tmp");
  fs::copy(newest(), root() / "step-00000400.tmp-delete");
  fs::create_directory(root() / "step-5");
  fs::create_directory(root() / "other");
  const ResumeChoice choice = choose(root());
  EXPECT_EQ(choice.checkpoint->filename(), "step-00000200");
  EXPECT_TRUE(choice.skipped.empty());
}

TEST_F(ResumeTest, PoliciesWhenNothingIsValid) {
  overwrite(newest() / kManifestName, "");
  overwrite(root() / "step-00000100" / kManifestName, "");
  const std::string message = message_of<CheckpointError>([&] { choose(root(), "auto"); });
  EXPECT_NE(message.find("step-00000100"), std::string::npos) << message;
  EXPECT_NE(message.find("step-00000200"), std::string::npos) << message;
  EXPECT_THROW(choose(root(), "must"), CheckpointError);
  EXPECT_THROW(choose(root(), newest().string()), CheckpointError);
  EXPECT_FALSE(choose(root(), "never").checkpoint);
}

TEST_F(ResumeTest, PoliciesWhenNothingEverExisted) {
  const TemporaryDirectory empty;
  for (const fs::path& directory : {empty.path(), empty.path() / "none"}) {
    EXPECT_FALSE(choose(directory, "auto").checkpoint);
    EXPECT_FALSE(choose(directory, "never").checkpoint);
    EXPECT_THROW(choose(directory, "must"), CheckpointError);
  }
  fs::create_directory(empty.path() / "step-00000001.tmp");
  EXPECT_FALSE(choose(empty.path(), "auto").checkpoint) << "nothing was ever published";
}

TEST_F(ResumeTest, PathsMayBeACheckpointOrADirectoryOfThem) {
  EXPECT_EQ(choose("/nowhere", (root() / "step-00000100").string()).checkpoint->filename(), "step-00000100");
  EXPECT_EQ(choose("/nowhere", root().string()).checkpoint->filename(), "step-00000200");
  EXPECT_FALSE(choose(root(), "never").checkpoint);
  EXPECT_THROW(choose(root(), (root() / "step-00000300").string()), CheckpointError);
}

TEST_F(ResumeTest, AllRanksAgree) {
  const auto files = contents_of(newest());
  std::string damaged = files.back().second;
  damaged[damaged.size() / 2] ^= 1;
  overwrite(newest() / files.back().first, damaged);
  for (const int ranks : {2, 3}) {
    parallel::ThreadWorld(ranks).run([&](parallel::Communicator& communicator) {
      const ResumeChoice choice = choose_checkpoint(root(), {}, communicator);
      ASSERT_TRUE(choice.checkpoint);
      EXPECT_EQ(choice.checkpoint->filename(), "step-00000100");
      EXPECT_NE(choice.skipped.at(0).find(files.back().first), std::string::npos) << choice.skipped[0];
      EXPECT_THROW(choose_checkpoint(root(), {ResumePolicy::kPath, newest()}, communicator), CheckpointError);
    });
  }
}

}  // namespace
}  // namespace cadre::launch::testing
