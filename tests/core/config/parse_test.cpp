#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "core/config/config.h"
#include "tests/core/config/settings.h"

namespace cadre::config::test {
namespace {

Settings read(const std::string& text) { return parse_text<Settings>("c.yaml", text); }

TEST(ParseTest, ReadsEveryType) {
  const Settings settings = read(R"(
reproducible: true
threads: 8
seq_length: 64Ki
seed: 18446744073709551615
directory: 010
workers: 3
device: cuda:0
note: "null"
groups: [[1, 2], [], [3]]
optimizer:
  kind: sgd
  lr: 1e-2
  clip_norm: null
  betas: [0.5]
  schedule: {warmup_steps: 1.5k}
data:
  train:
    - one.bin
    - {path: two.bin, weight: 0.25, schedule: 7}
  named: {x: {path: three.bin}, y: four.bin}
)");
  Settings expected;
  expected.reproducible = true;
  expected.threads = 8;
  expected.seq_length = 65'536;
  expected.seed = 18446744073709551615u;
  expected.directory = "010";
  expected.workers = 3;
  expected.device = std::string("cuda:0");
  expected.note = "null";
  expected.groups = {{1, 2}, {}, {3}};
  expected.optimizer = {Kind::kSgd, 1e-2, std::nullopt, {0.5}, {1500, 0.1}};
  expected.data.train = {{"one.bin", 1, std::nullopt}, {"two.bin", 0.25, Schedule{7, 0.1}}};
  expected.data.named = {{"x", {"three.bin", 1, std::nullopt}}, {"y", {"four.bin", 1, std::nullopt}}};
  EXPECT_TRUE(settings == expected);
}

TEST(ParseTest, DefaultsStandWhereNothingIsWritten) {
  EXPECT_TRUE(read("seed: 1\n") == Settings{});
  EXPECT_TRUE(read("{}\n") == Settings{});
  EXPECT_TRUE(read("workers: auto\n").workers.is_auto());
  EXPECT_EQ(read("device: 'auto'\n").device.value, "auto");
  EXPECT_EQ(read("note: ~\n").note, std::nullopt);
}

TEST(ParseTest, UnknownKeysAreRefusedWithASuggestion) {
  EXPECT_EQ(parse_error("optimizer:\n  lr_: 1\n"), "c.yaml:2: optimizer.lr_: unknown key; did you mean \"lr\"?");
  EXPECT_EQ(parse_error("thraeds: 1\n"), "c.yaml:1: thraeds: unknown key; did you mean \"threads\"?");
  EXPECT_EQ(parse_error("warmup_steps: 1\n"),
            "c.yaml:1: warmup_steps: unknown key; did you mean \"optimizer.schedule.warmup_steps\"?");
  EXPECT_EQ(parse_error("data: {xyz: 1}\n"), "c.yaml:1: data.xyz: unknown key; valid: train, named");
  EXPECT_EQ(parse_error("data:\n  train:\n    - path: a\n      wieght: 2\n"),
            "c.yaml:4: data.train[0].wieght: unknown key; did you mean \"weight\"?");
}

TEST(ParseTest, UnknownKeysCanBeListedInstead) {
  const std::string text =
      "seed: 7\nformer: {seed: 1}\noptimizer: {lr: 0.5, lr_: 1}\ndata: {train: [{path: a, wieght: 2}, b]}\n";
  std::vector<std::string> unknown;
  const Settings settings = parse<Settings>(parse_document("c.yaml", text), &unknown);
  EXPECT_EQ(unknown, (std::vector<std::string>{"former", "optimizer.lr_", "data.train[0].wieght"}));
  EXPECT_EQ(settings.seed, 7u);
  EXPECT_EQ(settings.optimizer.lr, 0.5);
  EXPECT_EQ(settings.data.train.size(), 2u);
  EXPECT_EQ(
      error_of([&] { parse<Settings>(parse_document("c.yaml", "former: 1\nseed: x\n"), &unknown); }).substr(0, 15),
      "c.yaml:2: seed:");
  EXPECT_NE(error_of([&] { parse<Settings>(parse_document("c.yaml", text)); }), "no error") << "strict without a list";
}

TEST(ParseTest, TypesAreStrict) {
  EXPECT_EQ(parse_error("threads: \"4\"\n"), "c.yaml:1: threads: got the string \"4\", wanted integer");
  EXPECT_EQ(parse_error("threads: [4]\n"), "c.yaml:1: threads: got a list, wanted integer");
  EXPECT_EQ(parse_error("threads: 3000000000\n"),
            "c.yaml:1: threads: got \"3000000000\", too large for a 32-bit integer");
  EXPECT_EQ(parse_error("seed: 010\n").substr(0, 25), "c.yaml:1: seed: got \"010\"");
  EXPECT_EQ(parse_error("seed: -1\n"), "c.yaml:1: seed: got \"-1\", wanted a whole number >= 0");
  EXPECT_EQ(parse_error("optimizer: {lr: .nan}\n"), "c.yaml:1: optimizer.lr: got \".nan\", wanted a number");
  EXPECT_EQ(parse_error("optimizer: {lr: .inf}\n"), "c.yaml:1: optimizer.lr: got \".inf\", wanted a number");
  EXPECT_EQ(parse_error("seed: 0x10\n"), "c.yaml:1: seed: got \"0x10\", wanted a whole number");
  for (const char* word : {"yes", "on", "True", "TRUE", "1", "\"true\"", "n"}) {
    EXPECT_NE(parse_error(std::string("reproducible: ") + word + "\n"), "no error") << word;
  }
  EXPECT_EQ(parse_error("reproducible: yes\n"), "c.yaml:1: reproducible: got \"yes\", wanted true or false");
  EXPECT_EQ(parse_error("directory:\n"), "c.yaml:1: directory: got null, wanted a string");
  EXPECT_EQ(parse_error("optimizer:\nseed: 1\n"), "c.yaml:1: optimizer: got null, wanted a mapping, or kind alone");
  EXPECT_EQ(parse_error("data: 3\n"), "c.yaml:1: data: got \"3\", wanted a mapping");
  EXPECT_EQ(parse_error("optimizer: adam\n"),
            "c.yaml:1: optimizer.kind: got \"adam\", wanted one of adamw, sgd, 1f1b; did you mean \"adamw\"?");
  EXPECT_EQ(parse_error("workers: null\n"), "c.yaml:1: workers: got null, wanted integer");
  EXPECT_EQ(parse_error("groups: 3\n"), "c.yaml:1: groups: got \"3\", wanted list of: list of: integer");
}

TEST(ParseTest, RangesHoldAlsoInsideListsAndOptionals) {
  EXPECT_EQ(parse_error("seq_length: 12\n"), "c.yaml:1: seq_length: got 12, wanted >= 8, a multiple of 8");
  EXPECT_EQ(parse_error("optimizer:\n  lr: 0\n"), "c.yaml:2: optimizer.lr: got 0, wanted > 0");
  EXPECT_EQ(parse_error("optimizer:\n  betas: [0.5,\n    1]\n"),
            "c.yaml:3: optimizer.betas[1]: got 1, wanted >= 0, < 1");
  EXPECT_EQ(parse_error("optimizer: {clip_norm: -1}\n"), "c.yaml:1: optimizer.clip_norm: got -1, wanted > 0");
  EXPECT_EQ(parse_error("workers: 0\n"), "c.yaml:1: workers: got 0, wanted >= 1");
  EXPECT_EQ(parse_error("groups: [[1], [2, -1]]\n"), "c.yaml:1: groups[1][1]: got -1, wanted >= 0");
  EXPECT_EQ(parse_error("directory: ''\n"), "c.yaml:1: directory: got an empty string, wanted one that is not empty");
}

TEST(ParseTest, RequiredFieldsMustBeWritten) {
  EXPECT_EQ(parse_error("data:\n  train:\n    - weight: 2\n"),
            "c.yaml:3: data.train[0].path: missing; it has no default");
  EXPECT_EQ(error_of([] { parse_text<test::Run>("c.yaml", "{}"); }), "c.yaml:1: directory: missing; it has no default");
}

TEST(ParseTest, ChecksSeeTheWholeStructAndNameTheLine) {
  EXPECT_EQ(parse_error("optimizer:\n  kind: sgd\n  lr: 0.7\n"),
            "c.yaml:3: optimizer.lr: too large for sgd; use at most 0.5");
  EXPECT_EQ(parse_error("seed: 1\noptimizer:\n  schedule:\n    warmup_steps: 13\n"),
            "c.yaml:4: optimizer.schedule.warmup_steps: 13 is refused");
  EXPECT_EQ(parse_error("optimizer:\n  schedule: 13\n"), "c.yaml:2: optimizer.schedule.warmup_steps: 13 is refused");
}

TEST(ParseTest, AllProblemsAreReportedUpToTwenty) {
  EXPECT_EQ(parse_error("threads: x\nseed: y\n"),
            "c.yaml:1: threads: got \"x\", wanted a whole number\nc.yaml:2: seed: got \"y\", wanted a whole number");
  std::string many;
  for (int i = 0; i < 50; ++i) many += "key" + std::to_string(i) + ": 1\n";
  const std::string error = parse_error(many);
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 20);
  EXPECT_EQ(error.substr(error.rfind('\n') + 1), "and 30 more problems");
}

TEST(ParseTest, ConfigErrorsExitWithTwo) {
  try {
    read("x: 1\n");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
  }
}

TEST(ParseTest, AFieldListWithARepeatedKeyIsABug) {
  StructCodec codec({nullptr, nullptr});
  Field first;
  first.key = "a";
  Field second;
  second.key = "a";
  codec.add(std::move(first));
  EXPECT_THROW(codec.add(std::move(second)), InternalError);
}

}  // namespace
}  // namespace cadre::config::test
