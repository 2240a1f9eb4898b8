#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "core/rng.h"
#include "launch/bench/bench.h"
#include "launch/bench/peer_case.h"
#include "launch/bench/timing.h"
#include "model/feed_forward.h"

namespace cadre::launch {
namespace {

// One feed-forward layer with its own parameters.
class Layer {
 public:
  Layer(Session& session, const model::NetworkSettings& settings)
      : context_(session.context()),
        settings_(settings),
        experts_(settings_),
        ffn_(store_, settings_, experts_.layer(0), 0, model::ExpertShard::whole(experts_.layer(0).computing())) {
    store_.materialise(context_, 1);
  }
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  // Forward and backward, parameter gradients included. `updated`: as the first one after an update, which packs the
  // weights anew.
  void run(const Tensor& x, bool updated) {
    if (updated) store_.touch();
    store_.clear_gradients();
    autograd::Tape tape(context_);
    std::vector<model::RoutingResult> routing;
    model::ForwardOptions options;
    options.global_tokens = static_cast<double>(x.shape()[0]);
    std::vector<autograd::Tape::Seed> seeds;
    autograd::Variable y = ffn_.forward(tape, options, autograd::Variable::leaf(x, true), Tensor(), {}, routing);
    seeds.push_back({std::move(y), x});
    for (const model::RoutingResult& layer : routing) {
      for (const autograd::Variable& loss : layer.losses()) seeds.push_back(tape.seed(loss));
    }
    routing.clear();
    tape.backward(std::move(seeds));
  }

 private:
  const autograd::Context& context_;
  model::NetworkSettings settings_;
  model::ExpertLayout experts_;
  autograd::ParameterStore store_;
  model::FeedForward ffn_;
};

struct Case {
  int64_t hidden, ffn, tokens;
};
constexpr Case kCases[] = {{256, 512, 2048}, {512, 1408, 2048}, {512, 1408, 8192}};

Tensor random_rows(Session& session, int64_t rows, int64_t columns) {
  Tensor x = Tensor::empty(session.allocator(), Dtype::kF32, {rows, columns});
  Rng rng(1, RngPurpose::kTest);
  for (int64_t i = 0; i < x.elements(); ++i) x.data<float>()[i] = static_cast<float>(rng.normal());
  return x;
}

nlohmann::json measure(Session& session, const BenchOptions& options, const Case& shape) {
  model::NetworkSettings moe = peer_settings().network(), dense;
  moe.model.hidden_size = dense.model.hidden_size = shape.hidden;
  moe.moe.ffn_hidden_size = shape.ffn;
  dense.model.ffn_hidden_size = moe.moe.top_k * shape.ffn;
  Layer expert_layer(session, moe), dense_layer(session, dense);
  const Tensor x = random_rows(session, shape.tokens, shape.hidden);
  const std::vector<double> seconds =
      alternate(options.seconds / static_cast<double>(std::size(kCases)),
                {[&] { expert_layer.run(x, true); }, [&] { dense_layer.run(x, true); },
                 [&] { expert_layer.run(x, false); }, [&] { dense_layer.run(x, false); }});
  const double updated = seconds[1] / seconds[0], steady = seconds[3] / seconds[2];
  if (options.print) {
    fmt::print("{:>8}{:>8}{:>8}{:>12.2f}{:>12.2f}{:>10.1f}%{:>21.1f}%\n", shape.hidden, shape.ffn, shape.tokens,
               1e3 * seconds[0], 1e3 * seconds[1], 100 * updated, 100 * steady);
  }
  return {{"hidden", shape.hidden},
          {"ffn", shape.ffn},
          {"tokens", shape.tokens},
          {"moe_seconds", seconds[0]},
          {"dense_seconds", seconds[1]},
          {"speed_of_dense", updated},
          {"speed_of_dense_accumulating", steady}};
}

// The experts of a layer alone, each with the same number of rows, forward and backward.
class Experts {
 public:
  Experts(Session& session, int64_t hidden, const std::vector<int64_t>& widths, int64_t rows_each)
      : context_(session.context()), group_(store_, "experts", specs_of(widths), hidden) {
    const auto count = static_cast<int64_t>(widths.size());
    offsets_ = Tensor::empty(context_.allocator, Dtype::kI64, {count + 1});
    for (int64_t i = 0; i <= count; ++i) offsets_.data<int64_t>()[i] = i * rows_each;
    store_.materialise(context_, 1);
  }
  Experts(const Experts&) = delete;
  Experts& operator=(const Experts&) = delete;

  // As after an update.
  void run(const Tensor& x) {
    store_.touch();
    store_.clear_gradients();
    autograd::Tape tape(context_);
    autograd::Variable y = group_.forward(
        tape, {},
        {autograd::Variable::leaf(x, true), autograd::Variable::leaf(offsets_), {0, offsets_.elements() - 1}});
    std::vector<autograd::Tape::Seed> seeds;
    seeds.push_back({std::move(y), x});
    tape.backward(std::move(seeds));
  }

 private:
  static std::vector<model::ExpertSpec> specs_of(const std::vector<int64_t>& widths) {
    std::vector<model::ExpertSpec> specs;
    int stack = 0;
    for (const int64_t ffn : widths) {
      if (!specs.empty() && specs.back().ffn != ffn) ++stack;
      const std::string name = std::to_string(specs.size());
      specs.push_back({name, -1, ffn, kernels::Activation::kSwiGlu, 0.02, 0.02, std::to_string(stack)});
    }
    return specs;
  }

  const autograd::Context& context_;
  autograd::ParameterStore store_;
  model::ExpertGroup group_;
  Tensor offsets_;
};

// Experts of two widths, in two stacks or in turn, against as many of their mean: the same FLOPs.
nlohmann::json measure_widths(Session& session, const BenchOptions& options, const Case& shape) {
  const int64_t narrow = shape.ffn / 2, wide = shape.ffn * 3 / 2, rows_each = shape.tokens * 2 / 8;
  Experts equal(session, shape.hidden, std::vector<int64_t>(8, shape.ffn), rows_each);
  Experts stacks(session, shape.hidden, {narrow, narrow, narrow, narrow, wide, wide, wide, wide}, rows_each);
  Experts in_turn(session, shape.hidden, {narrow, wide, narrow, wide, narrow, wide, narrow, wide}, rows_each);
  const Tensor x = random_rows(session, 8 * rows_each, shape.hidden);
  const std::vector<double> seconds =
      alternate(options.seconds / static_cast<double>(std::size(kCases)),
                {[&] { equal.run(x); }, [&] { stacks.run(x); }, [&] { in_turn.run(x); }});
  if (options.print) {
    fmt::print("{:>8}{:>8}{:>8}{:>12.2f}{:>12.2f}{:>12.2f}{:>10.1f}%{:>10.1f}%\n", shape.hidden, shape.ffn,
               shape.tokens, 1e3 * seconds[0], 1e3 * seconds[1], 1e3 * seconds[2], 100 * seconds[0] / seconds[1],
               100 * seconds[0] / seconds[2]);
  }
  return {{"hidden", shape.hidden},
          {"ffn", shape.ffn},
          {"tokens", shape.tokens},
          {"equal_seconds", seconds[0]},
          {"two_widths_seconds", seconds[1]},
          {"widths_in_turn_seconds", seconds[2]},
          {"speed_of_two_widths", seconds[0] / seconds[1]},
          {"speed_of_widths_in_turn", seconds[0] / seconds[2]}};
}

}  // namespace

nlohmann::json bench_layer(Session& session, const BenchOptions& options) {
  if (options.print) {
    fmt::print(
        "8 experts, top-2, against a dense layer of twice the expert's width; forward and backward\n"
        "{:>8}{:>8}{:>8}{:>12}{:>12}{:>11}{:>22}\n",
        "hidden", "ffn", "tokens", "MoE ms", "dense ms", "speed", "weights not updated");
  }
  nlohmann::json shapes = nlohmann::json::array();
  for (const Case& shape : kCases) shapes.push_back(measure(session, options, shape));
  if (options.print) {
    fmt::print(
        "4 experts of half the width and 4 of one and a half, side by side or in turn, against 8 equal ones\n"
        "{:>8}{:>8}{:>8}{:>12}{:>12}{:>12}{:>11}{:>11}\n",
        "hidden", "ffn", "tokens", "equal ms", "two ms", "in turn ms", "speed", "in turn");
  }
  nlohmann::json widths = nlohmann::json::array();
  for (const Case& shape : kCases) widths.push_back(measure_widths(session, options, shape));
  return {{"case", "layer"},
          {"threads", session.threads()},
          {"shapes", std::move(shapes)},
          {"different_widths", std::move(widths)}};
}

}  // namespace cadre::launch
