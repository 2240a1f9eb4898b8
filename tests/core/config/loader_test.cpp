#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "core/config/document.h"
#include "tests/core/config/settings.h"

namespace cadre::config::test {
namespace {

namespace fs = std::filesystem;

class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / ("cadre-loader-" + std::to_string(::getpid()) + "-" + info->name());
    fs::create_directories(folder_ / "sub");
  }
  ~LoaderTest() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  std::string load_error(const std::string& name, const Limits& limits = {}) const {
    return error_of([&] { load_document(folder_ / name, limits); });
  }

  fs::path folder_;
};

TEST_F(LoaderTest, LaterKeysWinAndRememberTheirFile) {
  write("sub/base.yaml", "include: ../root.yaml\nthreads: 2\noptimizer: {lr: 1, clip_norm: 5}\n");
  write("root.yaml", "threads: 1\nseed: 9\n");
  write("second.yaml", "seed: 10\noptimizer:\n  lr: 2\n");
  const std::string main = write("main.yaml", "include: [sub/base.yaml, second.yaml]\nthreads: 3\n");
  const Document document = load<Settings>(main);
  const Settings settings = parse<Settings>(document);
  EXPECT_EQ(settings.threads, 3);
  EXPECT_EQ(settings.seed, 10u);
  EXPECT_EQ(settings.optimizer.lr, 2);
  EXPECT_EQ(settings.optimizer.clip_norm, 5);
  EXPECT_EQ(document.root.find("include"), nullptr);
  EXPECT_EQ(document.root.find("optimizer")->find("lr")->location.text(), at("second.yaml") + ":3");
  EXPECT_EQ(document.root.find("optimizer")->find("clip_norm")->location.text(), at("sub/base.yaml") + ":3");
}

TEST_F(LoaderTest, CyclesShowTheChain) {
  write("a.yaml", "seed: 1\ninclude: b.yaml\n");
  write("b.yaml", "include: sub/c.yaml\n");
  write("sub/c.yaml", "# back\ninclude:\n  - ../a.yaml\n");
  EXPECT_EQ(load_error("a.yaml"), at("sub/c.yaml") + ":3: include: a cycle: " + at("a.yaml") + " -> " + at("b.yaml") +
                                      " -> " + at("sub/c.yaml") + " -> " + at("a.yaml"));
  write("self.yaml", "include: ./self.yaml\n");
  EXPECT_EQ(load_error("self.yaml"),
            at("self.yaml") + ":1: include: a cycle: " + at("self.yaml") + " -> " + at("self.yaml"));
  fs::create_symlink(folder_ / "link.yaml", folder_ / "other.yaml");
  write("link.yaml", "include: other.yaml\n");
  EXPECT_NE(load_error("link.yaml").find("a cycle"), std::string::npos);
}

TEST_F(LoaderTest, TheSameFileTwiceIsNoCycle) {
  write("root.yaml", "seed: 9\n");
  write("b.yaml", "include: root.yaml\n");
  write("a.yaml", "include: [root.yaml, b.yaml]\n");
  EXPECT_EQ(load_error("a.yaml"), "no error");
}

TEST_F(LoaderTest, MissingFilesNameTheIncludeLine) {
  EXPECT_EQ(load_error("none.yaml"), at("none.yaml") + ": cannot read it: No such file or directory");
  write("a.yaml", "seed: 1\ninclude: [gone.yaml]\n");
  EXPECT_EQ(load_error("a.yaml"),
            at("a.yaml") + ":2: include: cannot read " + at("gone.yaml") + ": No such file or directory");
  write("b.yaml", "include: {x: 1}\n");
  EXPECT_EQ(load_error("b.yaml"), at("b.yaml") + ":1: include: wanted a path, or a list of paths");
  EXPECT_NE(load_error("sub").find("cannot read"), std::string::npos);
  write("list.yaml", "- 1\n");
  EXPECT_EQ(load_error("list.yaml"), at("list.yaml") + ":1:1: a config is a mapping of keys to values");
  write("empty.yaml", "");
  EXPECT_EQ(load_error("empty.yaml"), at("empty.yaml") + ": empty");
}

TEST_F(LoaderTest, IncludesAreBounded) {
  for (int i = 0; i < 30; ++i) {
    const std::string next = "l" + std::to_string(i + 1) + ".yaml";
    write("l" + std::to_string(i) + ".yaml", "include: [" + next + ", " + next + "]\n");
  }
  write("l30.yaml", "seed: 1\n");
  EXPECT_NE(load_error("l0.yaml").find("more than 16 includes deep"), std::string::npos);
  EXPECT_NE(load_error("l20.yaml").find("more than 256 files"), std::string::npos);
  EXPECT_EQ(load_error("l25.yaml"), "no error");
  write("big.yaml", "note: " + std::string(5 << 20, 'x'));
  EXPECT_NE(load_error("big.yaml").find("at most 4194304 are read"), std::string::npos);
}

TEST_F(LoaderTest, ProblemsNameTheFileThatWroteTheKey) {
  write("base.yaml", "optimizer:\n  lrr: 1\n");
  const std::string main = write("main.yaml", "include: base.yaml\nthreads: 0\n");
  EXPECT_EQ(error_of([&] { parse<Settings>(load<Settings>(main)); }),
            at("main.yaml") + ":2: threads: got 0, wanted >= 1, <= 1024\n" + at("base.yaml") +
                ":2: optimizer.lrr: unknown key; did you mean \"lr\"?");
}

}  // namespace
}  // namespace cadre::config::test
