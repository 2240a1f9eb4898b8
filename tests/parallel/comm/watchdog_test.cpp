#include "parallel/comm/watchdog.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/error.h"
#include "parallel/comm/wait_clock.h"

namespace cadre::parallel {
namespace {

namespace fs = std::filesystem;

GroupPtr group_of(const std::string& name, uint64_t key, std::vector<int> members) {
  auto group = std::make_shared<Group>();
  *group = {name, key, std::move(members)};
  return group;
}

Call call_on(const GroupPtr& group, const char* name, int64_t sequence) {
  return {.operation = Operation::kAllReduce,
          .dtype = Dtype::kF32,
          .count = 8,
          .label = {name, 3},
          .sequence = sequence,
          .group = group};
}

Board board_of(std::vector<int> ranks, size_t own, std::shared_ptr<void> memory = nullptr) {
  if (!memory) memory = Board::private_memory(ranks.size());
  return {std::move(memory), std::move(ranks), own};
}

struct Folder {
  Folder() : path(fs::temp_directory_path() / ("cadre-watchdog-" + std::to_string(getpid()))) {
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

template <class Condition>
bool soon(Condition&& condition) {
  for (int i = 0; i < 500; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

TEST(Progress, APageTellsTheNewestState) {
  const auto memory = Board::private_memory(1);
  const Board board = board_of({0}, 0, memory);
  EXPECT_EQ(board.page(0).read().activity, Activity::kUnknown);
  ProgressWriter writer(board.page(0), 5);
  const GroupPtr group = group_of("data", 9, {5});
  writer.entered(call_on(group, "gradients", 12));
  writer.waiting(call_on(group, "gradients", 12));
  RankProgress progress = board.page(0).read();
  EXPECT_EQ(progress.rank, 5);
  EXPECT_EQ(progress.activity, Activity::kWaiting);
  EXPECT_EQ(describe(progress.waiting), "all_reduce(sum) \"gradients\" #12 of data, layer 3, f32 x 8");
  EXPECT_EQ(progress.last_finished, 0);
  EXPECT_EQ(progress.groups[0].entered, 12);
  writer.finished(call_on(group, "gradients", 12));
  writer.outside();
  progress = board.page(0).read();
  EXPECT_EQ(progress.activity, Activity::kOutside);
  EXPECT_EQ(progress.last_finished, 1);
  writer.forget(9);
  EXPECT_EQ(board.page(0).read().groups[0].key, 0U);
}

TEST(Progress, LongNamesAreCut) {
  const std::string name(200, 'x');
  const CallRecord record = record_of(call_on(group_of(name, 1, {0}), name.c_str(), 0));
  EXPECT_LT(describe(record).size(), 150U);
  EXPECT_TRUE(same_call(record, record));
}

TEST(Progress, TheAbsentAreThoseThatHaveNotEntered) {
  const GroupPtr group = group_of("expert", 4, {0, 1, 2});
  const Call call = call_on(group, "tokens", 7);
  std::vector<RankView> views(5);
  for (int rank = 0; rank < 5; ++rank) {
    views[static_cast<size_t>(rank)].progress.rank = rank;
    views[static_cast<size_t>(rank)].progress.activity = Activity::kWaiting;
  }
  views[0].progress.groups[0] = {4, 7, 6};
  views[1].progress.groups[0] = {4, 6, 6};
  EXPECT_EQ(absent_from(call, views), (std::vector<int>{1, 2}));  // 2 has called nothing yet; 3 and 4 are no members
  views[2].progress.activity = Activity::kUnknown;
  EXPECT_EQ(absent_from(call, views), (std::vector<int>{1}));
  EXPECT_TRUE(suspects(views).empty());
  views[3].progress.activity = Activity::kOutside;
  EXPECT_EQ(suspects(views), (std::vector<int>{3}));
  views[4].silent = 100;
  EXPECT_EQ(suspects(views), (std::vector<int>{4}));
}

TEST(Progress, ReportsPutEqualRanksOnOneLine) {
  std::vector<RankView> views(70);
  for (size_t rank = 0; rank < views.size(); ++rank) {
    views[rank].progress.rank = static_cast<int32_t>(rank);
    views[rank].progress.activity = Activity::kOutside;
    views[rank].seconds = static_cast<double>(rank);
  }
  views[8].progress.activity = Activity::kUnknown;
  EXPECT_EQ(report(views),
            "\n  ranks 0-7, 9-69: outside of collectives for 69.0 s; no collective entered"
            "\n  rank 8: nothing is known of it");
}

TEST(WaitClock, TimeInWhichItsProcessWasStoppedDoesNotCount) {
  WaitClock clock;
  auto now = std::chrono::steady_clock::now();
  clock.look_at(now);
  const double before = clock.look_at(now).count();
  for (int second = 1; second <= 4; ++second) clock.look_at(now += std::chrono::seconds(1));
  EXPECT_NEAR(clock.look_at(now).count(), before + 4, 1e-6);
  EXPECT_NEAR(clock.look_at(now += std::chrono::hours(3)).count(), before + 4, 1e-6);
  EXPECT_NEAR(clock.look_at(now += std::chrono::seconds(1)).count(), before + 5, 1e-6);
}

TEST(Watchdog, RanksOfANodeSeeEachOther) {
  const auto memory = Board::private_memory(2);
  Watchdog first(board_of({3, 7}, 0, memory), 8);
  Watchdog second(board_of({3, 7}, 1, memory), 8);
  second.writer().blocked("ends MPI");
  const std::vector<RankView> views = first.views();
  ASSERT_EQ(views.size(), 8U);
  EXPECT_EQ(views[7].progress.activity, Activity::kBlocked);
  EXPECT_STREQ(views[7].progress.blocked, "ends MPI");
  EXPECT_EQ(views[3].progress.activity, Activity::kOutside);
  EXPECT_EQ(views[0].progress.activity, Activity::kUnknown);
  EXPECT_EQ(views[0].progress.rank, 0);
  EXPECT_TRUE(second.claim_report());
  EXPECT_FALSE(first.claim_report());
}

TEST(Watchdog, ADeadProcessFallsSilentAndALiveOneDoesNot) {
  const auto memory = Board::private_memory(2);
  const Watchdog live(board_of({0, 1}, 0, memory), 2);
  {
    const Board board = board_of({0, 1}, 1, memory);
    ProgressWriter stopped(board.page(1), 1);  // without a watchdog nothing beats
  }
  EXPECT_TRUE(soon([&] { return live.views()[1].silent > kSilentSeconds; }));
  EXPECT_LT(live.views()[0].silent, live.views()[1].silent);
  EXPECT_EQ(suspects(live.views()), (std::vector<int>{1}));
}

TEST(Watchdog, NodesSeeEachOtherThroughADirectory) {
  const Folder folder;
  const auto memory = Board::private_memory(2);
  Watchdog here(board_of({0}, 0), 3);
  auto there = std::make_unique<Watchdog>(board_of({1, 2}, 0, memory), 3);
  EXPECT_EQ(here.views()[1].progress.activity, Activity::kUnknown);
  here.publish_in(folder.path);
  there->publish_in(folder.path);
  there->writer().entered(call_on(group_of("data", 1, {0, 1, 2}), "gradients", 5));
  ASSERT_TRUE(soon([&] { return here.views()[1].progress.entered_any != 0; }));
  EXPECT_EQ(here.views()[1].progress.last.sequence, 5);
  EXPECT_EQ(here.views()[2].progress.activity, Activity::kUnknown);  // it never started
  // A file that stays as it is belongs to a node that is gone.
  const fs::path file = folder.path / "progress-00001.bin";
  ASSERT_TRUE(fs::exists(file));
  const fs::path copy = folder.path / "copy";
  fs::copy_file(file, copy);
  there.reset();
  EXPECT_FALSE(fs::exists(file));
  fs::rename(copy, file);
  fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::seconds(40));
  EXPECT_GT(here.views()[1].silent, 30);
  // Rubbish is no rank.
  std::ofstream(folder.path / "progress-00002.bin") << std::string(5000, 'x');
  EXPECT_EQ(here.views()[2].progress.activity, Activity::kUnknown);
}

TEST(Watchdog, FilesOfAnEarlierRunTellNothing) {
  const Folder folder;
  {
    Board board = board_of({1, 2}, 0);
    board.job = 7;
    Watchdog earlier(board, 3);
    earlier.publish_in(folder.path);
    ASSERT_TRUE(soon([&] { return fs::exists(folder.path / "progress-00001.bin"); }));
    fs::copy_file(folder.path / "progress-00001.bin", folder.path / "copy");
  }
  fs::rename(folder.path / "copy", folder.path / "progress-00001.bin");
  Watchdog later(board_of({2}, 0), 3);
  later.publish_in(folder.path);
  EXPECT_EQ(later.views()[1].progress.activity, Activity::kUnknown);
  EXPECT_TRUE(fs::exists(folder.path / "progress-00001.bin"));
  Watchdog first(board_of({0}, 0), 3);
  first.publish_in(folder.path);
  EXPECT_FALSE(fs::exists(folder.path / "progress-00001.bin"));
}

TEST(Watchdog, AnotherRankOfTheNodeTakesPublishingOver) {
  const Folder folder;
  const auto memory = Board::private_memory(2);
  const Board stopped = board_of({1, 2}, 0, memory);
  ProgressWriter(stopped.page(0), 1).blocked("x");  // of a process that does not run any more
  Watchdog other(board_of({1, 2}, 1, memory), 3);
  other.publish_in(folder.path);
  EXPECT_TRUE(soon([&] { return fs::exists(folder.path / "progress-00001.bin"); }));
}

TEST(Watchdog, TellsOfACallThatIsNotLeft) {
  Watchdog watchdog(board_of({0}, 0), 2);
  std::atomic<bool> told{false};
  std::string text;
  watchdog.on_blocked(std::chrono::milliseconds(100), [&](const std::string& report) {
    text = report;
    told = true;
  });
  watchdog.writer().blocked("ends MPI");
  ASSERT_TRUE(soon([&] { return told.load(); }));
  EXPECT_NE(text.find("rank 0: ends MPI timed out after "), std::string::npos) << text;
  EXPECT_NE(text.find("\n  rank 1: nothing is known of it"), std::string::npos) << text;
}

}  // namespace
}  // namespace cadre::parallel
