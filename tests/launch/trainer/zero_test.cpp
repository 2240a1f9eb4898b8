// What ranks share out changes no bit: ZeRO stages, layouts of experts with replicas or without, checkpoints between
// them.

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <mutex>

#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/writer.h"
#include "launch/trainer/local_rank.h"
#include "launch/verify/verify_case.h"
#include "parallel/comm/thread.h"
#include "tests/core/io/temporary_directory.h"

namespace cadre::launch {
namespace {

using cadre::testing::TemporaryDirectory;

// Segments of several pieces and of less than one.
VerifyCase small_case(int64_t micro_batches) {
  Settings s;
  s.data.seq_length = 6;
  s.batch.micro_batch_size = 1;
  s.model.hidden_size = 32;
  s.model.num_layers = 2;
  s.model.num_heads = 2;
  s.model.ffn_hidden_size = 24;
  s.model.vocab_size = 1300;
  s.moe.num_experts = 3;
  s.moe.top_k = 2;
  s.moe.ffn_hidden_size = 520;
  s.moe.dense_layers = 1;
  return make_verify_case(s, micro_batches, false);
}

using Bytes = std::vector<char>;
using Values = std::map<std::string, Bytes>;  // by segment

Bytes bytes_of_part(const Tensor& flat, int64_t begin, const Shape& shape) {
  const Tensor part = flat.flat_slice(begin, shape);
  const char* data = static_cast<const char*>(part.raw());
  return {data, data + part.bytes()};
}

struct ZeroVariant {
  parallel::Layout layout{};
  int zero = 0;
};

std::string name_of(const ZeroVariant& v) { return v.layout.to_string() + ",zero=" + std::to_string(v.zero); }

LocalRankOptions options_for(const VerifyCase& verify_case, const ZeroVariant& variant) {
  LocalRankOptions options;
  options.layout = variant.layout;
  options.training.network = verify_case.network;
  options.training.shard.zero = variant.zero;
  options.training.shard.layers_per_stage.assign(variant.layout.pipeline > 1 ? 2 : 0,
                                                 verify_case.network.model.num_layers / 2);
  options.training.seed = verify_case.seed;
  options.training.trainer.total_steps = 10;
  options.training.trainer.gradients.bucket_bytes = 60'000;
  options.training.trainer.step.micro_batches = verify_case.micro_batches / variant.layout.data;
  options.training.trainer.step.global_target_tokens = static_cast<double>(verify_case.global_tokens());
  return options;
}

// One rank of a run.
class Rank {
 public:
  Rank(const VerifyCase& verify_case, const ZeroVariant& variant, parallel::Communicator& world)
      : case_(verify_case), variant_(variant), rank_(world, options_for(verify_case, variant)) {}

  TrainState& state() { return rank_.state(); }
  Allocator& allocator() { return rank_.context().allocator; }
  StepMetrics step() {
    const int64_t count = case_.micro_batches / variant_.layout.data;
    int64_t next = state().step * case_.micro_batches + count * rank_.mesh().here().data;
    return rank_.trainer().step([&] { return verify_batch(case_, next++); }, {}).metrics;
  }
  void steps(int count) {
    for (int i = 0; i < count; ++i) step();
  }

  // Adds this rank's values; what another rank has, too, must have the same bits.
  void collect(Values& values, std::mutex& mutex) {
    const std::lock_guard lock(mutex);
    for (const optim::SegmentState& segment : state().optimizer().segments()) {
      Bytes mine = bytes_of_part(state().store().values(), segment.offset, segment.shape);
      const auto [there, added] = values.try_emplace(segment.name, mine);
      EXPECT_TRUE(there->second == mine) << segment.name << " differs between ranks, " << name_of(variant_);
    }
  }

 private:
  const VerifyCase& case_;
  ZeroVariant variant_;
  LocalRank rank_;
};

template <class Body>
void on_ranks(const VerifyCase& verify_case, const ZeroVariant& variant, Body&& body) {
  parallel::ThreadWorld(variant.layout.ranks()).run([&](parallel::Communicator& world) {
    Rank rank(verify_case, variant, world);
    body(rank, world);
  });
}

struct Trained {
  Values values;
  std::vector<double> norms;  // of each step
};

Trained train(const VerifyCase& verify_case, const ZeroVariant& variant, int steps) {
  Trained result;
  std::mutex mutex;
  on_ranks(verify_case, variant, [&](Rank& rank, parallel::Communicator& world) {
    for (int i = 0; i < steps; ++i) {
      const StepMetrics metrics = rank.step();
      if (world.rank() == 0) result.norms.push_back(metrics.gradient_norm);
    }
    rank.collect(result.values, mutex);
  });
  return result;
}

// dp, pp, ep; experts alone, in uneven numbers, with replicas in a group and across groups; two stages that share an
// embedding.
const parallel::Layout kLayouts[] = {{2, 1, 1}, {3, 1, 1}, {2, 1, 2}, {4, 1, 2},
                                     {4, 1, 4}, {8, 1, 4}, {5, 1, 5}, {2, 2, 2}};

TEST(Zero, StageOneChangesNoBit) {
  for (const parallel::Layout& layout : kLayouts) {
    const VerifyCase verify_case = small_case(2 * layout.data);
    const Trained without = train(verify_case, {layout, 0}, 3), with = train(verify_case, {layout, 1}, 3);
    EXPECT_EQ(without.norms, with.norms) << layout.to_string();
    EXPECT_TRUE(without.values == with.values) << layout.to_string();
  }
}

// Its sums over micro-batches and ranks go in another order, so there is one micro-batch.
TEST(Zero, StageTwoChangesNoBitOfOneMicroBatch) {
  for (const parallel::Layout& layout : kLayouts) {
    const VerifyCase verify_case = small_case(layout.data);
    const Trained without = train(verify_case, {layout, 0}, 3), with = train(verify_case, {layout, 2}, 3);
    EXPECT_EQ(without.norms, with.norms) << layout.to_string();
    EXPECT_TRUE(without.values == with.values) << layout.to_string();
  }
}

TEST(Zero, RunsOfAllStagesAreReproducible) {
  const VerifyCase verify_case = small_case(12);
  for (const int zero : {0, 1, 2}) {
    const ZeroVariant variant{{4, 1, 4}, zero};
    EXPECT_TRUE(train(verify_case, variant, 2).values == train(verify_case, variant, 2).values) << zero;
  }
}

// Many layers, so that a few buckets are little of it.
VerifyCase deep_case(int64_t micro_batches) {
  Settings s;
  s.data.seq_length = 4;
  s.batch.micro_batch_size = 1;
  s.model.hidden_size = 64;
  s.model.num_layers = 16;
  s.model.num_heads = 2;
  s.model.ffn_hidden_size = 128;
  s.model.vocab_size = 50;
  return make_verify_case(s, micro_batches, false);
}

// Bytes of tensors: the weights, what a rank holds between steps, the most within a step.
struct Memory {
  double weights = 0, held = 0, peak = 0;
};

Memory memory_of(const VerifyCase& verify_case, const ZeroVariant& variant) {
  Memory memory;
  on_ranks(verify_case, variant, [&](Rank& rank, parallel::Communicator& world) {
    rank.step();
    rank.allocator().reset_peak();
    const auto held = static_cast<double>(rank.allocator().stats().in_use);
    rank.step();
    const auto peak = static_cast<double>(rank.allocator().stats().peak);
    const auto weights = static_cast<double>(rank.state().store().values().bytes());
    if (world.rank() == 0) memory = {weights, held, peak};
  });
  return memory;
}

TEST(Zero, StagesShareOutMomentsThenGradients) {
  const parallel::Layout layout{4, 1, 1};
  const VerifyCase verify_case = deep_case(4);
  const Memory none = memory_of(verify_case, {layout, 0}), moments = memory_of(verify_case, {layout, 1});
  const Memory gradients = memory_of(verify_case, {layout, 2});
  // The allocator's classes are a quarter apart.
  const double shared_out = 0.75 * none.weights, slack = 0.2 * none.weights;
  EXPECT_NEAR(none.held - moments.held, 2 * shared_out, 2 * slack);
  EXPECT_NEAR(moments.held - gradients.held, shared_out, slack);
  EXPECT_LT(moments.peak, none.peak - shared_out);
  EXPECT_LT(gradients.peak, moments.peak - 0.25 * none.weights);
}

CheckpointHeader header_of(TrainState& state) {
  CheckpointHeader header;
  header.run_id = "zero";
  header.step = state.step;
  header.state = state.scalars();
  return header;
}

std::filesystem::path save(Rank& rank, parallel::Communicator& world, const std::filesystem::path& root) {
  CheckpointWriter writer({root, uint64_t{64} << 10, {}}, world, rank.allocator());
  return writer.save(header_of(rank.state()), rank.state().entries_to_save()).directory;
}

void expect_same_tensors(const std::filesystem::path& one, const std::filesystem::path& other) {
  CheckpointReader first(one), second(other);
  ASSERT_EQ(first.manifest().tensors.size(), second.manifest().tensors.size());
  for (const auto& [name, tensor] : first.manifest().tensors) {
    ASSERT_TRUE(second.has(name)) << name;
    std::vector<float> a(static_cast<size_t>(tensor.shape.elements()), -1), b(a.size(), -2);
    first.read(name, {a.data(), tensor.dtype, tensor.shape, tensor.shape.cols()});
    second.read(name, {b.data(), tensor.dtype, tensor.shape, tensor.shape.cols()});
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0) << name;
  }
  EXPECT_EQ(first.manifest().header.state, second.manifest().header.state);
}

// Saved on one, read and saved again on the other.
void expect_exact_move(const VerifyCase& verify_case, const ZeroVariant& from, const ZeroVariant& to) {
  const TemporaryDirectory root;
  std::filesystem::path saved, again;
  on_ranks(verify_case, from, [&](Rank& rank, parallel::Communicator& world) {
    rank.steps(2);
    const auto directory = save(rank, world, root.path() / "from");
    if (world.rank() == 0) saved = directory;
  });
  on_ranks(verify_case, to, [&](Rank& rank, parallel::Communicator& world) {
    CheckpointReader reader(saved);
    rank.state().restore(reader);
    EXPECT_EQ(rank.state().step, 2);
    const auto directory = save(rank, world, root.path() / "to");
    if (world.rank() == 0) again = directory;
  });
  expect_same_tensors(saved, again);
}

TEST(Zero, CheckpointsMoveExactlyBetweenStagesAndLayouts) {
  const VerifyCase verify_case = small_case(8);
  const ZeroVariant variants[] = {{{1, 1, 1}, 0}, {{2, 1, 2}, 1}, {{4, 1, 4}, 2}, {{8, 1, 4}, 1}, {{4, 1, 2}, 0}};
  for (size_t i = 0; i < std::size(variants); ++i) {
    const ZeroVariant &one = variants[i], &other = variants[(i + 1) % std::size(variants)];
    SCOPED_TRACE(name_of(one) + " and " + name_of(other));
    expect_exact_move(verify_case, one, other);
    expect_exact_move(verify_case, other, one);
  }
}

TEST(Zero, TrainingGoesOnFromAnotherStagesCheckpointWithTheSameBits) {
  const parallel::Layout layout{4, 1, 4};
  const VerifyCase verify_case = small_case(8);
  const Values whole = train(verify_case, {layout, 0}, 4).values;
  const TemporaryDirectory root;
  std::filesystem::path saved;
  on_ranks(verify_case, {layout, 1}, [&](Rank& rank, parallel::Communicator& world) {
    rank.steps(2);
    const auto directory = save(rank, world, root.path());
    if (world.rank() == 0) saved = directory;
  });
  for (const int zero : {0, 1}) {
    Values values;
    std::mutex mutex;
    on_ranks(verify_case, {layout, zero}, [&](Rank& rank, parallel::Communicator&) {
      CheckpointReader reader(saved);
      rank.state().restore(reader);
      rank.steps(2);
      rank.collect(values, mutex);
    });
    EXPECT_TRUE(values == whole) << zero;
  }
}

}  // namespace
}  // namespace cadre::launch
