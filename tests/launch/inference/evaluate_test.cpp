#include "launch/inference/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <mutex>
#include <numbers>

#include "autograd/ops/cross_entropy.h"
#include "core/rng.h"
#include "data/indexed/writer.h"
#include "data/tokenizers/bytes.h"
#include "launch/trainer/train_state.h"
#include "launch/trainer/trainer.h"
#include "parallel/comm/self.h"
#include "parallel/comm/thread.h"
#include "tests/core/io/temporary_directory.h"

namespace cadre::launch {
namespace {

constexpr int kLength = 12;

model::NetworkSettings small_network() {
  model::NetworkSettings network;
  network.model.hidden_size = 32;
  network.model.num_layers = 2;
  network.model.num_heads = 2;
  network.model.ffn_hidden_size = 48;
  network.model.vocab_size = 256;
  network.model.init_std = 0.3;  // far from uniform, so that the routing and the losses differ between tokens
  network.moe.num_experts = 5;
  network.moe.balance.scope = model::BalanceScope::kGlobalBatch;
  return network;
}

// One rank: its own copy of the same model.
struct Rank {
  explicit Rank(Dtype dtype, model::NetworkSettings network = small_network(), int thread_count = 1)
      : threads(thread_count),
        allocator(make_host_allocator()),
        context{{threads, kernels::best_isa()}, *allocator, dtype},
        shard(mesh, network),
        state(context, network, shard, {}, 7) {}
  ThreadPool threads;
  std::shared_ptr<Allocator> allocator;
  autograd::Context context;
  std::unique_ptr<parallel::Communicator> self = parallel::make_self_communicator();
  parallel::Mesh mesh{*self, parallel::Layout{}};
  ModelShard shard;
  TrainState state;
};

class EvaluateTest : public ::testing::Test {
 protected:
  EvaluateTest() {
    // Two files, of 27 windows and of 3; neither ends with a window.
    for (const auto& [name, tokens] : {std::pair{"one", 26 * kLength + 5}, {"two", 2 * kLength + 1}}) {
      data::IndexedWriter writer(directory_.path() / name, data::TokenType::kU8);
      std::vector<int32_t> ids(static_cast<size_t>(tokens));
      for (int32_t& id : ids) id = static_cast<int32_t>(rng_.below(256));
      writer.add(ids);
      writer.publish("{}");
      std::filesystem::remove(directory_.path() / (std::string(name) + ".meta.json"));
      paths_.push_back((directory_.path() / name).string());
      tokens_ += tokens;
    }
  }
  data::HeldOut held_out(int64_t tokens = 0, bool reset_at_documents = false) const {
    return data::HeldOut(paths_, data::ByteTokenizer(), "data.tokenizer",
                         {kLength, 0, 256, reset_at_documents, tokens});
  }
  // On every rank; the ranks must agree bit for bit.
  static Evaluation on_ranks(int ranks, Dtype dtype, const data::HeldOut& held_out, int64_t batch_size) {
    std::mutex mutex;
    std::vector<Evaluation> results;
    parallel::ThreadWorld(ranks).run([&](parallel::Communicator& communicator) {
      Rank rank(dtype);
      const parallel::Mesh mesh(communicator, {.data = ranks});
      const Evaluation result = evaluate(rank.context, rank.state.model(), held_out, {batch_size, 500}, mesh);
      const std::lock_guard lock(mutex);
      results.push_back(result);
    });
    for (const Evaluation& result : results) EXPECT_EQ(result.loss, results[0].loss);
    EXPECT_EQ(results.size(), static_cast<size_t>(ranks));
    return results[0];
  }

  cadre::testing::TemporaryDirectory directory_;
  Rng rng_{1, RngPurpose::kTest};
  std::vector<std::string> paths_;
  int64_t tokens_ = 0;
};

TEST_F(EvaluateTest, IsTheMeanLossOfEveryToken) {
  Rank rank(Dtype::kF64);
  const data::HeldOut all = held_out();
  double nats = 0;
  for (int64_t window = 0; window < all.windows(); ++window) {
    const data::Batch batch = all.load(window, 1);
    autograd::Tape tape(rank.context, false);
    model::ForwardInputs inputs;
    inputs.options.training = false;
    auto out = rank.state.model().forward(tape, to_tokens(rank.context, batch, false), inputs);
    const auto targets = autograd::Variable::leaf(to_tensor(rank.context, batch.targets));
    nats += *tape.apply<autograd::CrossEntropy>({out.logits, targets}, 1.0).tensor().data<double>();
  }
  const Evaluation result = on_ranks(1, Dtype::kF64, all, 4);
  EXPECT_EQ(result.tokens, tokens_);
  EXPECT_NEAR(result.loss, nats / static_cast<double>(tokens_), 1e-12 * result.loss);
  EXPECT_DOUBLE_EQ(result.perplexity, std::exp(result.loss));
  EXPECT_DOUBLE_EQ(result.bits_per_byte, nats / std::numbers::ln2 / 500);
  EXPECT_GT(result.loss, std::log(256.0)) << "an untrained model knows nothing of random tokens";
}

TEST_F(EvaluateTest, DoesNotDependOnRanksOrBatches) {
  for (const int64_t tokens : {int64_t{0}, int64_t{7 * kLength}}) {
    const data::HeldOut set = held_out(tokens, true);
    const Evaluation fp64 = on_ranks(1, Dtype::kF64, set, 8), fp32 = on_ranks(1, Dtype::kF32, set, 8);
    EXPECT_NEAR(fp32.loss, fp64.loss, 1e-5 * fp64.loss);
    for (const int ranks : {1, 2, 3, 8}) {
      for (const int64_t batch_size : {1, 3, 64}) {
        const Evaluation single = on_ranks(ranks, Dtype::kF32, set, batch_size);
        EXPECT_EQ(single.tokens, fp32.tokens);
        EXPECT_EQ(single.loss, fp32.loss) << ranks << " ranks, batches of " << batch_size;
        const Evaluation wide = on_ranks(ranks, Dtype::kF64, set, batch_size);
        EXPECT_EQ(wide.tokens, fp64.tokens);
        EXPECT_NEAR(wide.loss, fp64.loss, 1e-12 * fp64.loss) << ranks << " ranks, batches of " << batch_size;
      }
    }
  }
}

TEST_F(EvaluateTest, NoTokenIsDropped) {
  const data::HeldOut all = held_out();
  model::NetworkSettings tight = small_network();
  tight.moe.capacity_factor = 0.25;
  Rank dropless(Dtype::kF32), capped(Dtype::kF32, tight);
  EXPECT_EQ(evaluate(capped.context, capped.state.model(), all, {8, 0}, capped.mesh).loss,
            evaluate(dropless.context, dropless.state.model(), all, {8, 0}, dropless.mesh).loss);
}

// Steps with and without an evaluation between them: the same loss, gradients, weights and fractions, bit for bit.
TEST_F(EvaluateTest, LeavesTheTrainingAlone) {
  const data::HeldOut all = held_out();
  Rank plain(Dtype::kF32, small_network(), 2), validated(Dtype::kF32, small_network(), 2);
  TrainerOptions options;
  options.total_steps = 10;
  options.step.global_target_tokens = 4 * kLength;
  Trainer plain_trainer(plain.context, plain.state, plain.mesh, options);
  Trainer validated_trainer(validated.context, validated.state, validated.mesh, options);
  for (int64_t step = 0; step < 4; ++step) {
    const auto next = [&] { return all.load(step * 4, 4); };
    const StepOutcome one = plain_trainer.step(next, {}), other = validated_trainer.step(next, {});
    EXPECT_EQ(one.metrics.loss, other.metrics.loss);
    EXPECT_EQ(one.metrics.balance_loss, other.metrics.balance_loss);
    EXPECT_EQ(one.metrics.gradient_norm, other.metrics.gradient_norm);
    EXPECT_EQ(one.metrics.memory_in_use, other.metrics.memory_in_use);
    EXPECT_EQ(one.metrics.memory_peak, other.metrics.memory_peak);
    EXPECT_EQ(one.metrics.experts[1].tokens, other.metrics.experts[1].tokens);
    const Tensor gradients = validated.state.store().gradients();
    const std::string before(static_cast<const char*>(gradients.raw()), gradients.bytes());
    evaluate(validated.context, validated.state.model(), all, {4, 0}, validated.mesh);
    EXPECT_EQ(std::memcmp(before.data(), gradients.raw(), gradients.bytes()), 0);
  }
  const Tensor &one = plain.state.store().values(), &other = validated.state.store().values();
  EXPECT_EQ(std::memcmp(one.raw(), other.raw(), one.bytes()), 0);
  for (size_t i = 0; i < plain.state.controls.size(); ++i) {
    const Tensor &fractions = plain.state.controls[i].fractions, &others = validated.state.controls[i].fractions;
    EXPECT_EQ(std::memcmp(fractions.raw(), others.raw(), 5 * sizeof(double)), 0);
  }
}

}  // namespace
}  // namespace cadre::launch
