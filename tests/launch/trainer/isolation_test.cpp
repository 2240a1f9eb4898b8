// Isolated experts: what is wrong with one expert's gradient, on one rank, changes no bit of anything else, and their
// state goes on on any layout.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "launch/checkpoint/inspect.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/writer.h"
#include "launch/trainer/local_rank.h"
#include "launch/trainer/move_state.h"
#include "launch/trainer/stages.h"
#include "launch/verify/verify_case.h"
#include "parallel/comm/thread.h"
#include "tests/core/io/temporary_directory.h"
#include "tests/launch/verify/random_case.h"

namespace cadre::launch {
namespace {

using namespace testing;
namespace fs = std::filesystem;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// An element of a segment's gradient on one rank, in one step, before anything is summed over ranks.
struct Poison {
  int64_t step = 0;
  int rank = 0;
  std::string segment;
  double value = 0;
};

struct Experiment {
  VerifyCase verify_case;
  Variant variant;
  Dtype dtype = Dtype::kF64;
  optim::OptimizerSettings optimizer{};
  Poison poison{}, second{};
};

// What is known of a segment after a step: from its owners, whole, and from each rank that has its values.
struct SegmentRecord {
  std::map<std::string, std::vector<char>> tensors;  // by name; "values" too
  int64_t steps = 0;
  double square = 0, factor = 1;  // of the gradient
  bool updates = true, isolated = false;
  std::vector<int> ranks;
  // Whether nothing that training goes on from differs.
  bool same(const SegmentRecord& other) const { return tensors == other.tensors && steps == other.steps; }
};
using Record = std::map<std::string, SegmentRecord>;

struct Outcome {
  std::vector<Record> records;  // before the first step, and after each
  StepOutcome last;
  bool poisoned = false;
};

void put_poison(autograd::Parameter& parameter, const Poison& poison, bool& done) {
  for (const autograd::Segment& segment : parameter.segments) {
    if (segment.name != poison.segment) continue;
    const int64_t group = segment.offset / (parameter.shape.elements() / parameter.groups());
    const autograd::Parameter::Target target = parameter.claim(group, 1, 0);
    if (target.empty) std::memset(target.gradient.raw(), 0, target.gradient.bytes());
    const int64_t at = segment.offset + segment.count() / 2;
    if (parameter.gradient.dtype() == Dtype::kF64) {
      parameter.gradient.data<double>()[at] = poison.value;
    } else {
      parameter.gradient.data<float>()[at] = static_cast<float>(poison.value);
    }
    done = true;
  }
}

// One rank of an experiment.
class Rank {
 public:
  Rank(const Experiment& experiment, parallel::Communicator& world)
      : experiment_(experiment), world_rank_(world.rank()), local_(world, options()) {}

  TrainState& state() { return local_.state(); }
  LocalRank& local() { return local_; }
  bool poisoned() const { return poisoned_; }

  StepOutcome step() {
    const VerifyCase& verify_case = experiment_.verify_case;
    const int64_t each = verify_case.micro_batches / experiment_.variant.layout.data;
    int64_t next = state().step * verify_case.micro_batches + local_.mesh().here().data * each;
    return local_.trainer().step([&] { return verify_batch(verify_case, next++); }, {});
  }

  LocalRankOptions options() {
    const VerifyCase& verify_case = experiment_.verify_case;
    const Variant& variant = experiment_.variant;
    ParallelSettings parallel;
    parallel.pipeline_parallel = variant.layout.pipeline;
    parallel.stages_per_rank = variant.stages_per_rank;
    LocalRankOptions options;
    options.layout = variant.layout;
    options.dtype = experiment_.dtype;
    options.training.network = verify_case.network;
    options.training.shard.layers_per_stage =
        decide_stages(parallel, counted_costs(verify_case.network, verify_case.seq_length));
    options.training.shard.dispatch = verify_case.dispatch;
    options.training.shard.zero = verify_case.zero;
    options.training.optimizer = experiment_.optimizer;
    options.training.seed = verify_case.seed;
    TrainerOptions& trainer = options.training.trainer;
    trainer.total_steps = 10;
    trainer.schedule.kind = variant.schedule;
    trainer.schedule.chunks = variant.stages_per_rank;
    trainer.step.micro_batches = verify_case.micro_batches / variant.layout.data;
    trainer.step.global_target_tokens = static_cast<double>(verify_case.global_tokens());
    trainer.step.reset_at_documents = verify_case.reset_at_documents;
    trainer.gradients.before_reduction = [this](autograd::Parameter& parameter) {
      for (const Poison* poison : {&experiment_.poison, &experiment_.second}) {
        const bool now = world_rank_ == poison->rank && state().step + 1 == poison->step;
        if (now) put_poison(parameter, *poison, poisoned_);
      }
    };
    return options;
  }

  void record(Record& record) {
    for (const optim::SegmentState& segment : state().optimizer().segments()) {
      SegmentRecord& here = record[segment.name];
      here.ranks.push_back(world_rank_);
      here.steps = segment.steps;
      here.square = segment.gradient_norm * segment.gradient_norm;
      here.factor = segment.clip_factor;
      here.updates = segment.updates;
      here.isolated = segment.isolated >= 0;
      add(here, "values", state().store().values(), segment.offset, segment, {0, segment.count()});
      for (const optim::MomentTensor& moment : state().optimizer().moments()) {
        if (!segment.has(moment)) continue;
        add(here, moment.name, moment.tensor, segment.state_offset - segment.kept.begin, segment, segment.owned);
      }
    }
  }

 private:
  // What is there already must have the same bits.
  static void add(SegmentRecord& record, const std::string& name, const Tensor& flat, int64_t begin,
                  const optim::SegmentState& segment, const parallel::ElementRange& range) {
    const size_t width = size_of(flat.dtype());
    const auto [there, added] = record.tensors.try_emplace(name, static_cast<size_t>(segment.count()) * width);
    const char* const from = static_cast<const char*>(flat.raw()) + static_cast<size_t>(begin + range.begin) * width;
    char* const to = there->second.data() + static_cast<size_t>(range.begin) * width;
    const size_t bytes = static_cast<size_t>(range.count()) * width;
    if (!added && name == "values") {
      EXPECT_EQ(std::memcmp(to, from, bytes), 0) << segment.name << " differs between ranks";
    }
    std::memcpy(to, from, bytes);
  }

  const Experiment& experiment_;
  const int world_rank_;
  bool poisoned_ = false;
  LocalRank local_;
};

template <class Body>
void on_ranks(const Experiment& experiment, Body&& body) {
  parallel::ThreadWorld(experiment.variant.layout.ranks()).run([&](parallel::Communicator& world) {
    Rank rank(experiment, world);
    body(rank, world);
  });
}

Outcome run(const Experiment& experiment, int steps) {
  Outcome outcome;
  outcome.records.resize(static_cast<size_t>(steps) + 1);
  std::mutex mutex;
  on_ranks(experiment, [&](Rank& rank, parallel::Communicator& world) {
    const auto record = [&](int step) {
      const std::lock_guard lock(mutex);
      rank.record(outcome.records[static_cast<size_t>(step)]);
    };
    record(0);
    StepOutcome last;
    for (int step = 1; step <= steps; ++step) {
      last = rank.step();
      record(step);
    }
    const std::lock_guard lock(mutex);
    outcome.poisoned = outcome.poisoned || rank.poisoned();
    if (world.rank() == 0) outcome.last = last;
  });
  return outcome;
}

// ---- What a draw is.

template <class T>
const T& pick(Rng& rng, const std::vector<T>& values) {
  return values[rng.below(values.size())];
}

model::IsolationSettings random_isolation(Rng& rng) {
  model::IsolationSettings isolation;
  isolation.experts = pick<std::string>(rng, {"layers.*.experts.*", "layers.*.experts.*", "layers.*.experts.0..1"});
  if (rng.below(2) == 0) isolation.clip_norm = std::optional<double>(0.05);
  isolation.normalise_by_tokens = rng.below(2) == 0;
  isolation.skip_idle = rng.below(2) == 0;
  isolation.accumulate_tokens = pick<int64_t>(rng, {0, 0, 3, 1000});
  if (rng.below(2) == 0) isolation.quarantine = model::QuarantineSettings{2, pick<int64_t>(rng, {1, 100})};
  return isolation;
}

optim::OptimizerSettings random_optimizer(Rng& rng) {
  optim::OptimizerSettings optimizer;
  optimizer.kind = pick<optim::OptimizerKind>(rng, {optim::OptimizerKind::kAdamW, optim::OptimizerKind::kSgd});
  optimizer.lr = 0.01;
  optimizer.clip_norm = pick<double>(rng, {0.1, 1.0});
  return optimizer;
}

// Of up to four ranks.
Variant random_variant_of_four(Rng& rng, const Settings& settings) {
  const int ranks = static_cast<int>(1 + rng.below(4));
  return pick(rng, all_variants(ranks, ranks, model::ExpertLayout(settings.network()).fewest_computing(),
                                settings.model.num_layers, true));
}

Experiment random_experiment(Rng& rng) {
  Settings settings = random_settings(rng);
  if (model::ExpertLayout(settings.network()).moe_layers().empty()) settings.moe.dense_layers = 0;
  settings.moe.isolation = random_isolation(rng);
  Experiment experiment;
  experiment.variant = random_variant_of_four(rng, settings);
  const int64_t micro_batches = experiment.variant.layout.data * static_cast<int64_t>(1 + rng.below(2));
  experiment.verify_case = make_verify_case(settings, micro_batches, false);
  experiment.dtype = pick<Dtype>(rng, {Dtype::kF32, Dtype::kF64});
  experiment.optimizer = random_optimizer(rng);
  return experiment;
}

// One rank that holds some isolated expert, and a segment of that.
Poison random_poison(Rng& rng, const Record& record) {
  std::vector<std::string> victims;
  for (const auto& [name, segment] : record) {
    if (segment.isolated) victims.push_back(name);
  }
  Poison poison{2, 0, pick(rng, victims), pick<double>(rng, {kNan, kInfinity, -kInfinity, 1e30, -1e30})};
  poison.rank = pick(rng, record.at(poison.segment).ranks);
  return poison;
}

std::string expert_of(const std::string& segment) { return segment.substr(0, segment.rfind('.') + 1); }

// ---- What must hold.

// Segments of others than the poisoned expert that are not alike.
std::string others_that_differ(const Record& a, const Record& b, const Poison& poison) {
  std::string names;
  for (const auto& [name, segment] : a) {
    if (!name.starts_with(expert_of(poison.segment)) && !segment.same(b.at(name))) names += name + " ";
  }
  return names;
}

void expect_untouched(const Outcome& outcome, const Record& wanted, const Poison& poison) {
  for (const auto& [name, segment] : outcome.records.back()) {
    if (!name.starts_with(expert_of(poison.segment))) continue;
    EXPECT_TRUE(segment.same(wanted.at(name))) << name << " changed";
    EXPECT_FALSE(segment.updates) << name;
  }
}

void expect_clipped(const Outcome& outcome, double most, const Poison& poison) {
  double square = 0, factor = 0;
  for (const auto& [name, segment] : outcome.records.back()) {
    if (!name.starts_with(expert_of(poison.segment))) continue;
    square += segment.square;
    factor = segment.factor;
  }
  EXPECT_NEAR(std::sqrt(square) * factor, most, 1e-6 * most);
}

void expect_event(const Outcome& outcome, const model::IsolationSettings& isolation) {
  using Kind = optim::ExpertEvent::Kind;
  ASSERT_EQ(outcome.last.metrics.events.size(), 1u);
  const optim::ExpertEvent& event = outcome.last.metrics.events.front();
  EXPECT_EQ(event.kind, isolation.quarantine ? Kind::kQuarantined : Kind::kSkipped);
  for (const LayerLoad& load : outcome.last.metrics.experts) {
    ASSERT_TRUE(load.isolation.has_value());
    const std::vector<int64_t> ids =
        load.layer == event.layer ? std::vector<int64_t>{event.expert} : std::vector<int64_t>();
    EXPECT_EQ(load.isolation->skipped, ids);
    EXPECT_EQ(load.isolation->quarantined, isolation.quarantine ? ids : std::vector<int64_t>());
  }
}

// The same without isolation: the poison is one that matters.
void expect_harm(Experiment experiment) {
  experiment.verify_case.network.moe.isolation.reset();
  const Outcome poisoned = run(experiment, 2);
  ASSERT_TRUE(poisoned.poisoned);
  if (!std::isfinite(experiment.poison.value)) {
    EXPECT_FALSE(poisoned.last.finite);
    return;
  }
  const Poison poison = std::exchange(experiment.poison, {});
  EXPECT_NE(others_that_differ(run(experiment, 2).records.back(), poisoned.records.back(), poison), "");
}

void check_draw(uint64_t draw) {
  Rng rng(7, RngPurpose::kTest, draw);
  Experiment experiment = random_experiment(rng);
  const model::IsolationSettings& isolation = *experiment.verify_case.network.moe.isolation;
  const Outcome clean = run(experiment, 2);
  ASSERT_TRUE(clean.last.finite);
  experiment.poison = random_poison(rng, clean.records.back());
  const Poison& poison = experiment.poison;
  SCOPED_TRACE("draw " + std::to_string(draw) + ": " + experiment.variant.to_string() + ", zero " +
               std::to_string(experiment.verify_case.zero) + ", " + std::to_string(poison.value) + " in " +
               poison.segment + " on rank " + std::to_string(poison.rank));
  const Outcome poisoned = run(experiment, 2);
  ASSERT_TRUE(poisoned.poisoned);
  EXPECT_TRUE(poisoned.last.finite);
  EXPECT_EQ(others_that_differ(clean.records.back(), poisoned.records.back(), poison), "");
  EXPECT_EQ(clean.last.metrics.gradient_norm, poisoned.last.metrics.gradient_norm);
  EXPECT_EQ(clean.last.metrics.clip_factor, poisoned.last.metrics.clip_factor);
  EXPECT_NE(others_that_differ(clean.records[1], clean.records[2], poison), "") << "the others go on";
  if (!std::isfinite(poison.value)) {
    const bool to_the_start = isolation.quarantine && isolation.quarantine->snapshot_every > 1;
    expect_untouched(poisoned, poisoned.records[to_the_start ? 0 : 1], poison);
    expect_event(poisoned, isolation);
  } else if (poisoned.records.back().at(poison.segment).updates) {
    expect_clipped(poisoned, *isolation.clip_norm.value_or(experiment.optimizer.clip_norm), poison);
  } else {
    expect_untouched(poisoned, poisoned.records[1], poison);
    EXPECT_TRUE(isolation.accumulate_tokens > 0 || isolation.skip_idle);
  }
  expect_harm(experiment);
}

TEST(Isolation, ABadGradientOfOneExpertOnOneRankChangesNothingElse) {
  const int count = draws(30);
  for (int draw = 0; draw < count; ++draw) check_draw(static_cast<uint64_t>(draw));
}

// ---- State that goes on.

void save(Rank& rank, const fs::path& root, TrainState& state) {
  CheckpointHeader header;
  header.step = state.step;
  header.state = state.scalars();
  CheckpointWriter({root, 1 << 20, {}}, rank.local().mesh().world(), rank.local().context().allocator)
      .save(header, state.entries_to_save());
}

fs::path at_step(const fs::path& root, int64_t step) { return root / ("step-0000000" + std::to_string(step)); }

struct Leg {
  fs::path from{};  // a checkpoint; empty: from the start
  int64_t steps = 0;
  fs::path save_before{}, save{};  // folders of checkpoints; empty: none
};

void carry_out(const Experiment& experiment, const Leg& leg) {
  on_ranks(experiment, [&](Rank& rank, parallel::Communicator&) {
    if (!leg.from.empty()) {
      CheckpointReader reader(leg.from);
      rank.state().restore(reader);
    }
    if (!leg.save_before.empty()) save(rank, leg.save_before, rank.state());
    for (int64_t i = 0; i < leg.steps; ++i) EXPECT_TRUE(rank.step().finite);
    if (!leg.save.empty()) save(rank, leg.save, rank.state());
  });
}

// Of layer 1, expert 0 is in quarantine from step 2 on, and expert 1 from step 4 on; others have kept gradients.
Experiment eventful(Rng& rng) {
  Experiment experiment;
  Settings settings = small_settings();
  settings.moe.isolation.emplace();
  settings.moe.isolation->accumulate_tokens = 40;
  settings.moe.isolation->normalise_by_tokens = true;
  settings.moe.isolation->quarantine = model::QuarantineSettings{3, 2};
  experiment.variant = random_variant_of_four(rng, settings);
  experiment.verify_case = make_verify_case(settings, 12, false);
  experiment.verify_case.zero = static_cast<int>(rng.below(3));
  experiment.dtype = pick<Dtype>(rng, {Dtype::kF32, Dtype::kF64});
  experiment.optimizer = random_optimizer(rng);
  const Record record = run(experiment, 1).records.back();
  const auto bad = [&](int64_t step, const std::string& segment) {
    return Poison{step, record.at(segment).ranks.front(), segment, kNan};
  };
  experiment.poison = bad(2, "layers.1.moe.experts.0.w2");
  experiment.second = bad(4, "layers.1.moe.experts.1.w1");
  return experiment;
}

TEST(Isolation, ARunGoesOnWithTheSameBitsAndItsStateOnAnyLayout) {
  const int count = draws(6);
  for (int draw = 0; draw < count; ++draw) {
    Rng rng(8, RngPurpose::kTest, static_cast<uint64_t>(draw));
    Experiment experiment = eventful(rng);
    SCOPED_TRACE("draw " + std::to_string(draw) + ": " + experiment.variant.to_string());
    const cadre::testing::TemporaryDirectory directory;
    const fs::path half = directory.path() / "half", whole = directory.path() / "whole",
                   rest = directory.path() / "rest", copy = directory.path() / "copy";
    carry_out(experiment, {.steps = 3, .save = half});
    carry_out(experiment, {.steps = 7, .save = whole});
    carry_out(experiment, {.from = at_step(half, 3), .steps = 4, .save = rest});
    const Inspection same = checkpoint_diff(at_step(whole, 7), at_step(rest, 7));
    EXPECT_TRUE(same.ok) << same.text;
    CheckpointReader reader(at_step(half, 3));
    const nlohmann::json isolation = reader.manifest().header.state.at("isolation");
    EXPECT_EQ(isolation.at("layers.1.experts.0").at("quarantined_until"), 5);
    EXPECT_EQ(isolation.at("layers.1.experts.0").at("skipped"), 1);
    EXPECT_EQ(isolation.at("layers.1.experts.1").at("quarantined_until"), 0);
    EXPECT_EQ(isolation.at("layers.1.experts.1").at("snapshot_steps"), 2);
    CheckpointReader end(at_step(rest, 7));
    EXPECT_EQ(end.manifest().header.state.at("segment_steps").at("layers.1.moe.experts.1.w1"), 2)
        << "back to what the checkpoint had of step 2";
    EXPECT_TRUE(reader.has("/optimizer/layers.1.moe.experts.3.w1/accumulated_gradient"));
    EXPECT_FALSE(reader.has("/optimizer/layers.1.moe.router.weight/accumulated_gradient"));

    Experiment other = eventful(rng);
    other.dtype = experiment.dtype;
    other.optimizer = experiment.optimizer;
    carry_out(other, {.from = at_step(half, 3), .steps = 0, .save_before = copy});
    const Inspection moved = checkpoint_diff(at_step(half, 3), at_step(copy, 3));
    EXPECT_TRUE(moved.ok) << other.variant.to_string() << ", zero " << other.verify_case.zero << moved.text;
  }
}

// With one micro-batch a rank.
TEST(Isolation, ZeroStagesChangeNoBit) {
  Rng rng(9, RngPurpose::kTest, 0);
  Experiment experiment = eventful(rng);
  experiment.verify_case.micro_batches = 4;
  experiment.poison.rank = experiment.second.rank = 0;
  const cadre::testing::TemporaryDirectory directory;
  for (const int expert : {1, 2, 4}) {
    experiment.variant = {};
    experiment.variant.layout = {4, 1, expert};
    const auto root = [&](int zero) { return directory.path() / (std::to_string(expert) + std::to_string(zero)); };
    for (const int zero : {0, 1, 2}) {
      experiment.verify_case.zero = zero;
      carry_out(experiment, {.steps = 6, .save = root(zero)});
      const Inspection same = checkpoint_diff(at_step(root(0), 6), at_step(root(zero), 6));
      EXPECT_TRUE(same.ok) << "expert ranks " << expert << ", zero " << zero << same.text;
    }
  }
}

TEST(Isolation, ItsStateMovesWithItsExperts) {
  Rng rng(11, RngPurpose::kTest, 0);
  Experiment experiment = eventful(rng);
  experiment.verify_case.network.moe.isolation->experts = "layers.*.experts.0..2";
  experiment.variant = {};
  experiment.variant.layout = {4, 1, 2};
  experiment.poison.rank = experiment.second.rank = 0;
  const parallel::Placement others({{1}, {0, 1}, {0}, {0}, {1}}, 2);
  for (const int zero : {0, 1, 2}) {
    experiment.verify_case.zero = zero;
    const cadre::testing::TemporaryDirectory directory;
    const fs::path before = directory.path() / "before", after = directory.path() / "after";
    on_ranks(experiment, [&](Rank& rank, parallel::Communicator&) {
      for (int i = 0; i < 3; ++i) rank.step();
      save(rank, before, rank.state());
      TrainingOptions options = rank.options().training;
      options.shard.placements = {others};
      Training next(rank.local().context(), rank.local().mesh(), options);
      move_state(rank.state(), next.state);
      save(rank, after, next.state);
    });
    const Inspection same = checkpoint_diff(at_step(before, 3), at_step(after, 3));
    EXPECT_TRUE(same.ok) << "zero " << zero << same.text;
  }
}

TEST(Isolation, ItMayBeTurnedOffAndOn) {
  Rng rng(10, RngPurpose::kTest, 0);
  const Experiment with = eventful(rng);
  Experiment without = with;
  without.verify_case.network.moe.isolation.reset();
  without.poison = without.second = {};
  const cadre::testing::TemporaryDirectory directory;
  const fs::path on = directory.path() / "on", off = directory.path() / "off", again = directory.path() / "again";
  carry_out(with, {.steps = 1, .save = on});
  carry_out(without, {.from = at_step(on, 1), .steps = 0, .save = off});
  CheckpointReader plain(at_step(off, 1));
  EXPECT_FALSE(plain.manifest().header.state.contains("isolation"));
  EXPECT_FALSE(plain.has("/optimizer/layers.1.moe.experts.0.w2/snapshot"));
  // Step 2 is bad, and goes back to what was loaded.
  carry_out(with, {.from = at_step(off, 1), .steps = 1, .save = again});
  CheckpointReader back(at_step(again, 2));
  const nlohmann::json& state = back.manifest().header.state;
  EXPECT_EQ(state.at("isolation").at("layers.1.experts.0").at("quarantined_until"), 5);
  EXPECT_EQ(state.at("segment_steps").at("layers.1.moe.experts.0.w2"),
            plain.manifest().header.state.at("segment_steps").at("layers.1.moe.experts.0.w2"));
  for (const std::string name : {"/model/layers.1.moe.experts.0.w1", "/model/layers.1.moe.experts.0.w2"}) {
    const ManifestTensor& tensor = plain.tensor(name);
    const size_t bytes = static_cast<size_t>(tensor.shape.elements()) * size_of(tensor.dtype);
    std::vector<char> loaded(bytes), now(bytes);
    plain.read(name, {loaded.data(), tensor.dtype, tensor.shape, tensor.shape.cols()});
    back.read(name, {now.data(), tensor.dtype, tensor.shape, tensor.shape.cols()});
    EXPECT_EQ(loaded, now) << name;
  }
}

}  // namespace
}  // namespace cadre::launch
