#pragma once
// Settings with every member type, for the tests of core/config.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "core/error.h"

namespace cadre::config::test {

enum class Kind { kAdamW, kSgd, kInterleaved };

struct Schedule {
  std::int64_t warmup_steps = 100;
  double final_fraction = 0.1;
  bool operator==(const Schedule&) const = default;
};

struct Optimizer {
  Kind kind = Kind::kAdamW;
  double lr = 3e-4;
  std::optional<double> clip_norm = 1.0;
  std::vector<double> betas = {0.9, 0.95};
  Schedule schedule;
  bool operator==(const Optimizer&) const = default;
};

struct Source {
  std::string path;
  double weight = 1;
  std::optional<Schedule> schedule;
  bool operator==(const Source&) const = default;
};

struct Data {
  std::vector<Source> train;
  std::map<std::string, Source> named;
  bool operator==(const Data&) const = default;
};

struct Settings {
  bool reproducible = false;
  int threads = 1;
  std::int64_t seq_length = 256;
  std::uint64_t seed = 1;
  std::string directory = "runs/first";
  Auto<int> workers;
  Auto<std::string> device;
  std::optional<std::string> note;
  std::vector<std::vector<int>> groups;
  Optimizer optimizer;
  Data data;
  bool operator==(const Settings&) const = default;
};

struct Run {
  std::string directory;
};

// The message of the ConfigError that `action` throws, or "no error".
template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

inline std::string parse_error(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return error_of([&] { parse_text<Settings>("c.yaml", text, overrides); });
}

}  // namespace cadre::config::test

namespace cadre::config {

template <>
struct EnumNames<test::Kind> {
  using enum test::Kind;
  static constexpr EnumName<test::Kind> values[] = {{kAdamW, "adamw"}, {kSgd, "sgd"}, {kInterleaved, "1f1b"}};
};

template <>
struct Schema<test::Schedule> {
  using S = test::Schedule;
  static void fields(Fields<S>& f) {
    f.add("warmup_steps", &S::warmup_steps, "Steps of linear warmup").min(0).shorthand();
    f.add("final_fraction", &S::final_fraction, "Last rate over peak rate").min(0).max(1);
  }
};

template <>
struct Schema<test::Optimizer> {
  using S = test::Optimizer;
  static void fields(Fields<S>& f) {
    f.about("How parameters are updated.");
    f.add("kind", &S::kind, "Update rule").shorthand();
    f.add("lr", &S::lr, "Peak learning rate").above(0);
    f.add("clip_norm", &S::clip_norm, "Largest global gradient norm, a | b").above(0);
    f.add("betas", &S::betas, "Decay of the moments").min(0).below(1);
    f.add("schedule", &S::schedule, "Learning rate over time");
  }
  static void check(const S& s, Problems& problems) {
    if (s.kind == test::Kind::kSgd && s.lr > 0.5) problems.add("lr", "too large for sgd; use at most 0.5");
    if (s.schedule.warmup_steps == 13) problems.add("schedule.warmup_steps", "13 is refused");
  }
};

template <>
struct Schema<test::Source> {
  using S = test::Source;
  static void fields(Fields<S>& f) {
    f.add("path", &S::path, "Token file").required().not_empty().shorthand();
    f.add("weight", &S::weight, "Share of the samples").above(0);
    f.add("schedule", &S::schedule, "Weight over time");
  }
};

template <>
struct Schema<test::Data> {
  using S = test::Data;
  static void fields(Fields<S>& f) {
    f.add("train", &S::train, "Training sources");
    f.add("named", &S::named, "Sources by name");
  }
};

template <>
struct Schema<test::Settings> {
  using S = test::Settings;
  static void fields(Fields<S>& f) {
    f.add("reproducible", &S::reproducible, "Same bits on every layout");
    f.add("threads", &S::threads, "Threads").min(1).max(1024);
    f.add("seq_length", &S::seq_length, "Tokens in a sample").min(8).multiple_of(8);
    f.add("seed", &S::seed, "Seed of all random numbers");
    f.add("directory", &S::directory, "Where the run writes").not_empty();
    f.add("workers", &S::workers, "Reading threads").min(1);
    f.add("device", &S::device, "Where to compute");
    f.add("note", &S::note, "Free text");
    f.add("groups", &S::groups, "Groups of layers").min(0);
    f.add("optimizer", &S::optimizer, "The optimizer");
    f.add("data", &S::data, "Token sources");
  }
};

template <>
struct Schema<test::Run> {
  static void fields(Fields<test::Run>& f) { f.add("directory", &test::Run::directory, "Where").required(); }
};

}  // namespace cadre::config
