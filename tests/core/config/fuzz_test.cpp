// Random damage to good configs: whatever the bytes, the loader returns or throws ConfigError.
#include <gtest/gtest.h>

#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config.h"
#include "tests/core/config/settings.h"

namespace cadre::config::test {
namespace {

constexpr std::string_view kSeeds[] = {
    "reproducible: true\nthreads: 8\nseq_length: 64Ki\ngroups: [[1, 2], [], [3]]\noptimizer:\n  kind: sgd\n  lr: 1e-2\n"
    "  clip_norm: null\n  betas: [0.5]\n  schedule: {warmup_steps: 1.5k}\ndata:\n  train:\n    - one.bin\n"
    "    - {path: two.bin, weight: 0.25, schedule: 7}\n  named: {x: {path: three.bin}, y: four.bin}\n",
    "a: &x {b: [1, 2], c: *y}\nd: *x\ne: |\n  text\n  more\nf: >-\n  folded\ng: \"q\\u00e9\\n\"\nh: 'single''s'\n",
    "? key\n: value\n---\n- - - a\n  - b\n...\n%YAML 1.2\n--- !!map\n<<: {a: 1}\n",
    "note: \"\\x41\\U0001F600\"\ndirectory: a b c\ndevice: auto\n# comment\nworkers: auto\n"};

constexpr std::string_view kPieces[] = {":",
                                        ": ",
                                        "- ",
                                        "\n",
                                        "\n  ",
                                        "[",
                                        "]",
                                        "{",
                                        "}",
                                        ",",
                                        "&a ",
                                        "*a",
                                        "!t ",
                                        "|\n",
                                        ">",
                                        "\"",
                                        "'",
                                        "#",
                                        "%",
                                        "@",
                                        "`",
                                        "\t",
                                        "---\n",
                                        "...\n",
                                        "? ",
                                        "~",
                                        "null",
                                        "010",
                                        ".nan",
                                        "1e999",
                                        "64Ki",
                                        "<<: ",
                                        "\xEF\xBB\xBF",
                                        "\xFF",
                                        "\x04",
                                        "\\",
                                        "include: x\n",
                                        "optimizer",
                                        "data.train",
                                        "[[[[[[[["};

std::string mutate(std::string text, std::mt19937_64& random) {
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  for (std::size_t edits = 1 + below(4); edits > 0; --edits) {
    const std::size_t at = below(text.size() + 1);
    switch (below(5)) {
      case 0: text.insert(at, kPieces[below(std::size(kPieces))]); break;
      case 1: text.erase(at, below(20)); break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 3: text.insert(at, text.substr(below(text.size() + 1), below(60))); break;
      default:
        if (at < text.size()) text[at] = kPieces[below(std::size(kPieces))][0];
    }
  }
  return text;
}

TEST(ConfigFuzzTest, OnlyConfigErrorComesOut) {
  std::mt19937_64 random(11);
  int accepted = 0;
  for (int i = 0; i < 6'000; ++i) {
    const std::string text = mutate(std::string(kSeeds[random() % std::size(kSeeds)]), random);
    std::vector<std::string> overrides;
    if (i % 4 == 0) overrides.push_back(mutate("data.train[0].weight=2", random));
    try {
      const Settings settings = parse_text<Settings>("fuzz", text, overrides);
      ++accepted;
      EXPECT_TRUE(parse_text<Settings>("again", print_resolved(settings)) == settings) << text;
    } catch (const ConfigError& error) {
      const std::string_view message = error.what();
      EXPECT_FALSE(message.empty());
      EXPECT_EQ(message.find('\r'), message.npos);
    } catch (const std::exception& error) {
      ADD_FAILURE() << "not a ConfigError: " << error.what() << "\n" << text;
    }
  }
  EXPECT_GT(accepted, 100);
}

TEST(ConfigFuzzTest, RepeatedPiecesStayBounded) {
  for (const std::string_view piece : kPieces) {
    std::string text = "note: ";
    while (text.size() < 50'000) text += piece;
    error_of([&] { parse_text<Settings>("fuzz", text); });
    error_of([&] { parse_text<Settings>("fuzz", text.substr(6)); });
  }
}

}  // namespace
}  // namespace cadre::config::test
