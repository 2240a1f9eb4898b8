#include "launch/checkpoint/directory.h"

#include <fstream>

#include "tests/launch/checkpoint/checkpoint_fixture.h"

namespace cadre::launch::testing {
namespace {

namespace fs = std::filesystem;

std::vector<int64_t> steps_in(const fs::path& root) {
  std::vector<int64_t> steps;
  for (const StepDirectory& step : list_steps(root)) steps.push_back(step.step);
  return steps;
}

void make_steps(const fs::path& root, std::initializer_list<int64_t> steps) {
  for (const int64_t step : steps) save_one(root, step, 1);
}

TEST(Steps, NamesSortAndOthersAreIgnored) {
  const TemporaryDirectory root;
  for (const char* name :
       {"step-00000002", "step-00000010", "step-123456789", "step-00000010.old-0", "step-00000010.old-1", "step-10",
        "step-00000011.tmp", "step-000000012", "step-0000001x", "step-", "notes"}) {
    fs::create_directory(root.path() / name);
  }
  std::vector<std::string> names;
  for (const StepDirectory& step : list_steps(root.path())) names.push_back(step.path.filename().string());
  EXPECT_EQ(names, (std::vector<std::string>{"step-123456789", "step-00000010", "step-00000010.old-1",
                                             "step-00000010.old-0", "step-00000002"}));
  EXPECT_EQ(step_name(123456789), "step-123456789");
  EXPECT_TRUE(list_steps(root.path() / "none").empty());
}

TEST(Prune, KeepsTheLastAndThePermanent) {
  const TemporaryDirectory root;
  make_steps(root.path(), {100, 150, 200, 250, 300});
  EXPECT_TRUE(prune(root.path(), {0, 0}).empty());
  EXPECT_EQ(steps_in(root.path()).size(), 5u);
  EXPECT_TRUE(prune(root.path(), {2, 100}).empty());
  EXPECT_EQ(steps_in(root.path()), (std::vector<int64_t>{300, 250, 200, 100}));
  prune(root.path(), {1, 0});
  EXPECT_EQ(steps_in(root.path()), (std::vector<int64_t>{300}));
}

TEST(Prune, NeverDeletesTheNewestValidNorTheOneJustPublished) {
  const TemporaryDirectory root;
  make_steps(root.path(), {100, 200, 300, 400});
  for (const char* damaged : {"step-00000400", "step-00000300"}) {
    std::ofstream(root.path() / damaged / kManifestName) << "damaged";
  }
  prune(root.path(), {1, 0}, 100);
  EXPECT_EQ(steps_in(root.path()), (std::vector<int64_t>{400, 300, 200, 100}));
  prune(root.path(), {1, 0});
  EXPECT_EQ(steps_in(root.path()), (std::vector<int64_t>{400, 300, 200}));
}

TEST(Prune, SweepsWhatDeadProcessesLeft) {
  const TemporaryDirectory root;
  make_steps(root.path(), {100});
  for (const char* name : {"step-00000200.tmp", "step-00000050.tmp-delete", "step-00000100.old-0"}) {
    fs::create_directory(root.path() / name);
  }
  fs::create_directory(root.path() / "notes");
  EXPECT_TRUE(prune(root.path(), {3, 0}).empty());
  EXPECT_EQ(std::distance(fs::directory_iterator(root.path()), fs::directory_iterator()), 2);
}

}  // namespace
}  // namespace cadre::launch::testing
