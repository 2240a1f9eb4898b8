#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "core/config/config.h"
#include "tests/core/config/settings.h"

namespace cadre::config::test {
namespace {

void expect_round_trip(const Settings& settings) {
  const std::string text = print_resolved(settings);
  const std::string error = error_of([&] {
    EXPECT_TRUE(parse_text<Settings>("printed", text) == settings) << text;
    EXPECT_EQ(print_resolved(parse_text<Settings>("printed", text)), text);
  });
  EXPECT_EQ(error, "no error") << text;
}

TEST(PrintTest, PlainTextIsExact) {
  Settings settings;
  settings.note = "two words";
  settings.groups = {{1, 2}, {}};
  settings.data.train = {{"a.bin", 0.1, Schedule{5, 1}}, {"b.bin", 2, std::nullopt}};
  EXPECT_EQ(print_resolved(settings), R"(reproducible: false
threads: 1
seq_length: 256
seed: 1
directory: runs/first
workers: auto
device: auto
note: "two words"
groups: [[1, 2], []]
optimizer:
  kind: adamw
  lr: 3e-4
  clip_norm: 1
  betas: [0.9, 0.95]
  schedule:
    warmup_steps: 100
    final_fraction: 0.1
data:
  train:
    - path: a.bin
      weight: 0.1
      schedule:
        warmup_steps: 5
        final_fraction: 1
    - path: b.bin
      weight: 2
      schedule: null
  named: {}
)");
  expect_round_trip(settings);
}

TEST(PrintTest, ProvenanceNamesTheLineOrDefault) {
  Document document = parse_document("c.yaml", "threads: 2\noptimizer: sgd\ndata:\n  train:\n    - a.bin\n");
  apply_override(document, "optimizer.schedule.warmup_steps=7", make_codec<Settings>().get());
  const std::string text = print_resolved(parse<Settings>(document), &document);
  const auto has = [&](const std::string& line) { return text.find(line + "\n") != std::string::npos; };
  const auto padded = [](std::string start, const std::string& comment) {
    start.resize(48, ' ');
    return start + "# " + comment;
  };
  EXPECT_TRUE(has(padded("threads: 2", "c.yaml:1"))) << text;
  EXPECT_TRUE(has(padded("seed: 1", "default"))) << text;
  EXPECT_TRUE(has(padded("  kind: sgd", "c.yaml:2"))) << text;
  EXPECT_TRUE(has(padded("  lr: 3e-4", "default"))) << text;
  EXPECT_TRUE(has(padded("    warmup_steps: 7", "--set optimizer.schedule.warmup_steps"))) << text;
  EXPECT_TRUE(has(padded("    - path: a.bin", "c.yaml:5"))) << text;
  EXPECT_TRUE(has(padded("      weight: 1", "default"))) << text;
  EXPECT_TRUE(has("optimizer:")) << text;
  EXPECT_TRUE(parse_text<Settings>("printed", text) == parse<Settings>(document));
}

TEST(PrintTest, AwkwardStringsRoundTrip) {
  for (const std::string text : {"",
                                 " ",
                                 "auto",
                                 "null",
                                 "~",
                                 "true",
                                 "1",
                                 "010",
                                 "1e3",
                                 "- a",
                                 "a: b",
                                 "#",
                                 "a #b",
                                 "'",
                                 "\"",
                                 "\\",
                                 "\n",
                                 "\t",
                                 "a\nb\n",
                                 "\x01\x7f",
                                 "\r\n",
                                 "h\xC3\xA9",
                                 "\xC2\x85",
                                 "\xE2\x80\xA8",
                                 "\xEF\xBB\xBF",
                                 "\xF0\x9F\x98\x80",
                                 "*a",
                                 "&a",
                                 "!a",
                                 "%a",
                                 "@a",
                                 "`a",
                                 "[a]",
                                 "{a}",
                                 "...",
                                 "---",
                                 "--- a",
                                 "<<",
                                 "=",
                                 "?",
                                 "? a",
                                 ":",
                                 "a:",
                                 "-",
                                 "a,b",
                                 ".",
                                 "./x",
                                 "/x",
                                 "Null",
                                 "NULL",
                                 "yes",
                                 ".nan",
                                 "\xEF\xBF\xBF",
                                 "x\\n"}) {
    Settings settings;
    settings.directory = text.empty() ? "x" : text;
    settings.note = text;
    settings.device = text;
    settings.data.train = {{"p" + text, 1, std::nullopt}};
    if (text.find_first_of("\n\t\r\x01") == text.npos && !text.empty() && text != "<<") {
      settings.data.named[text] = {"q", 1, std::nullopt};
    }
    expect_round_trip(settings);
  }
  Settings zero;
  zero.note = std::string("a\0b", 3);
  expect_round_trip(zero);
}

TEST(PrintTest, NumbersRoundTripExactly) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> exponent(-300, 300);
  for (int i = 0; i < 300; ++i) {
    Settings settings;
    settings.optimizer.lr = std::pow(10.0, exponent(random));
    settings.seed = random();
    settings.optimizer.kind = i % 2 == 0 ? Kind::kInterleaved : Kind::kSgd;
    if (settings.optimizer.kind == Kind::kSgd) settings.optimizer.lr = std::min(settings.optimizer.lr, 0.5);
    settings.groups.assign(static_cast<std::size_t>(i % 7), std::vector<int>(static_cast<std::size_t>(i % 40), i));
    settings.workers = i + 1;
    settings.optimizer.clip_norm.reset();
    expect_round_trip(settings);
  }
}

TEST(PrintTest, WhatNoConfigCanSayIsABug) {
  Settings settings;
  settings.optimizer.lr = std::numeric_limits<double>::infinity();
  EXPECT_THROW(print_resolved(settings), InternalError);
  settings.optimizer.lr = 1;
  settings.optimizer.kind = static_cast<Kind>(77);
  EXPECT_THROW(print_resolved(settings), InternalError);
}

}  // namespace
}  // namespace cadre::config::test
