#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/config/document.h"
#include "tests/core/config/settings.h"

namespace cadre::config::test {
namespace {

Settings with(const std::string& text, const std::vector<std::string>& overrides) {
  return parse_text<Settings>("c.yaml", text, overrides);
}

TEST(OverrideTest, SetsScalarsListsAndMappings) {
  const Settings settings = with(
      "threads: 2\n", {"threads=4", "optimizer.schedule.warmup_steps=2k", "optimizer.betas=[0.5, 0.6]",
                       "data.train=[{path: a}, b]", "device=\"auto\"", "note=two words", "data.named={x: {path: y}}"});
  EXPECT_EQ(settings.threads, 4);
  EXPECT_EQ(settings.optimizer.schedule.warmup_steps, 2000);
  EXPECT_EQ(settings.optimizer.betas, (std::vector<double>{0.5, 0.6}));
  EXPECT_EQ(settings.data.train[1].path, "b");
  EXPECT_EQ(settings.device.value, "auto");
  EXPECT_EQ(settings.note, "two words");
  EXPECT_EQ(settings.data.named.at("x").path, "y");
}

TEST(OverrideTest, IndexesListsAndEntersShortForms) {
  const Settings settings = with("data: {train: [a, {path: b}], named: {n: p}}\noptimizer: sgd\n",
                                 {"data.train[0].weight=2", "data.train[1].path=c", "data.named.n.weight=3",
                                  "optimizer.lr=0.25", "data.train[0].schedule.warmup_steps=5"});
  EXPECT_EQ(settings.data.train[0].path, "a");
  EXPECT_EQ(settings.data.train[0].weight, 2);
  EXPECT_EQ(settings.data.train[0].schedule->warmup_steps, 5);
  EXPECT_EQ(settings.data.train[1].path, "c");
  EXPECT_EQ(settings.data.named.at("n").weight, 3);
  EXPECT_EQ(settings.optimizer.kind, Kind::kSgd);
  EXPECT_EQ(settings.optimizer.lr, 0.25);
}

TEST(OverrideTest, LaterOnesWin) { EXPECT_EQ(with("threads: 1\n", {"threads=2", "threads=3"}).threads, 3); }

TEST(OverrideTest, ErrorsNameTheArgument) {
  const std::string text = "threads: 2\ndata: {train: [a]}\n";
  EXPECT_EQ(parse_error(text, {"optimizer.lr_=1"}), "--set optimizer.lr_: unknown key; did you mean \"lr\"?");
  EXPECT_EQ(parse_error(text, {"optimizer={lr_: 1}"}),
            "--set optimizer: optimizer.lr_: unknown key; did you mean \"lr\"?");
  EXPECT_EQ(parse_error(text, {"threads=0"}), "--set threads: got 0, wanted >= 1, <= 1024");
  EXPECT_EQ(parse_error(text, {"data.train[1].weight=2"}),
            "--set data.train[1].weight: data.train has 1 items; the last is [0]");
  EXPECT_EQ(parse_error(text, {"threads.x=2"}), "--set threads.x: threads is \"2\" (c.yaml:1), not a mapping");
  EXPECT_EQ(parse_error(text, {"optimizer.betas[0]=2"}),
            "--set optimizer.betas[0]: optimizer.betas is null, not a list that the config writes");
  EXPECT_EQ(parse_error(text, {"threads="}), "--set threads: no value; write null, or \"\" for an empty string");
  EXPECT_EQ(parse_error(text, {"include=x.yaml"}), "--set include: only a file can include");
  EXPECT_EQ(parse_error(text, {"optimizer={lr: 1, lr: 2}"}), "--set optimizer: lr: duplicate key");
  EXPECT_EQ(parse_error(text, {"note=[1"}).substr(0, 12), "--set note: ");
  for (const char* bad : {"", "threads", "=1", ".a=1", "a.=1", "a..b=1", "[0]=1", "a[=1", "a[x]=1", "a[-1]=1",
                          "a[0]b=1", "a]=1", "a[99999999999999999999999]=1"}) {
    EXPECT_EQ(parse_error(text, {bad}),
              std::string("--set \"") + bad + "\": wanted KEY=VALUE, such as optimizer.lr=1e-3 or train[0].weight=2");
  }
  std::string deep = "a";
  for (int i = 0; i < 100; ++i) deep += ".a";
  EXPECT_NE(parse_error(text, {deep + "=1"}).find("nested too deep"), std::string::npos);
}

}  // namespace
}  // namespace cadre::config::test
