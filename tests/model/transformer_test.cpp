#include "model/transformer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "core/error.h"
#include "tests/model/tiny_model.h"

namespace cadre::model {
namespace {

using testing::StepResult;
using testing::TinyModel;

constexpr int64_t kTokens = 14;  // of the tiny batch

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

std::vector<int64_t> tokens(int64_t count) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < count; ++i) values.push_back((i * i + 3 * i + 1) % 11);
  return values;
}

// Logits of two sequences fed in pieces of these lengths, position by position as one pass gives them.
std::vector<double> decoded(TinyModel& model, const std::vector<int64_t>& all, const std::vector<int64_t>& pieces) {
  const int64_t length = static_cast<int64_t>(all.size()) / 2, vocabulary = 11;
  GenerationState state = model.transformer->make_state(model.context, 2, length + 3);
  std::vector<double> logits(static_cast<size_t>(2 * length * vocabulary));
  int64_t past = 0;
  for (const int64_t piece : pieces) {
    std::vector<int64_t> part;
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t t = 0; t < piece; ++t) part.push_back(all[static_cast<size_t>(b * length + past + t)]);
    }
    const std::vector<double> got = model.logits(model.tokens_of(part, 2, past), &state);
    for (int64_t b = 0; b < 2; ++b) {
      std::copy_n(got.begin() + b * piece * vocabulary, piece * vocabulary,
                  logits.begin() + (b * length + past) * vocabulary);
    }
    past += piece;
  }
  return logits;
}

TEST(Transformer, DecodingWithCachesEqualsOnePass) {
  for (const bool experts : {true, false}) {
    for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
      NetworkSettings settings = testing::tiny_settings();
      if (!experts) settings.moe = MoeSettings{};
      settings.moe.capacity_factor = 0.5;  // must not matter
      TinyModel model(settings, dtype);
      const std::vector<int64_t> all = tokens(18);
      const std::vector<double> wanted = model.logits(model.tokens_of(all, 2));
      const double tolerance = dtype == Dtype::kF64 ? 1e-12 : 2e-5;
      EXPECT_LT(largest_difference(decoded(model, all, {9}), wanted), tolerance);
      EXPECT_LT(largest_difference(decoded(model, all, {4, 1, 1, 1, 1, 1}), wanted), tolerance);
      EXPECT_LT(largest_difference(decoded(model, all, {1, 5, 3}), wanted), tolerance);
    }
  }
}

TEST(Transformer, PackedDocumentsDoNotSeeEachOther) {
  TinyModel model(testing::tiny_settings());
  const std::vector<int64_t> all = tokens(7);
  TokenBatch packed = model.tokens_of(all);
  packed.segment_start = model.tensor_of({0, 0, 0, 3, 3, 3, 3});
  std::vector<double> wanted = model.logits(model.tokens_of({all.begin(), all.begin() + 3}));
  const std::vector<double> second = model.logits(model.tokens_of({all.begin() + 3, all.end()}));
  wanted.insert(wanted.end(), second.begin(), second.end());
  EXPECT_LT(largest_difference(model.logits(packed), wanted), 1e-12);
  EXPECT_GT(largest_difference(model.logits(model.tokens_of(all)), wanted), 1e-3);
}

TEST(Transformer, AttentionIsCausal) {
  TinyModel model(testing::tiny_settings());
  std::vector<int64_t> all = tokens(7);
  std::vector<double> before = model.logits(model.tokens_of(all));
  all.back() = (all.back() + 1) % 11;
  std::vector<double> after = model.logits(model.tokens_of(all));
  EXPECT_GT(largest_difference(before, after), 1e-3);
  before.resize(6 * 11);
  after.resize(6 * 11);
  EXPECT_LT(largest_difference(before, after), 1e-12);
}

TEST(Transformer, RoutingCountsSumToAllChoices) {
  for (const auto scope : {BalanceScope::kMicroBatch, BalanceScope::kSequence}) {
    NetworkSettings settings = testing::tiny_settings();
    settings.moe.balance.scope = scope;
    settings.moe.capacity_factor = 0.5;
    const StepResult result = TinyModel(settings).step(nullptr, nullptr, false);
    ASSERT_EQ(result.routing.size(), 2u);
    for (const RoutingResult& routing : result.routing) {
      const int64_t scopes = scope == BalanceScope::kSequence ? 2 : 1;
      ASSERT_EQ(routing.counts.shape(), (Shape{scopes, 4}));
      std::vector<int64_t> counted(static_cast<size_t>(scopes * 4), 0);
      for (int64_t slot = 0; slot < kTokens * 2; ++slot) {
        ++counted[static_cast<size_t>(slot / (kTokens * 2 / scopes) * 4 + routing.ids.data<int32_t>()[slot])];
      }
      const int64_t* counts = routing.counts.data<int64_t>();
      EXPECT_EQ(std::vector<int64_t>(counts, counts + scopes * 4), counted);
      for (int64_t e = 0; e < 4 && scopes == 1; ++e) {
        const int64_t kept = routing.offsets.data<int64_t>()[e + 1] - routing.offsets.data<int64_t>()[e];
        EXPECT_EQ(kept, std::min<int64_t>(counts[e], 4)) << "capacity is ceil(0.5 * 14 * 2 / 4)";
      }
    }
  }
}

TEST(Transformer, CapacityAppliesInTrainingOnly) {
  NetworkSettings settings = testing::tiny_settings();
  settings.moe.capacity_factor = 0.5;
  TinyModel model(settings);
  for (const RoutingResult& routing : model.step(nullptr, nullptr, false).routing) {
    EXPECT_LT(routing.offsets.data<int64_t>()[4], kTokens * 2);
  }
  for (const RoutingResult& routing : model.evaluate().routing) {
    EXPECT_EQ(routing.offsets.data<int64_t>()[4], kTokens * 2);
  }
}

TEST(Transformer, EvaluationHasNoAuxiliaryLosses) {
  const StepResult result = TinyModel(testing::tiny_settings()).evaluate();
  EXPECT_EQ(result.balance, 0);
  EXPECT_EQ(result.z, 0);
}

// coef * experts * sum over scopes and experts of (share of choices) * (sum of probabilities) / global tokens.
double balance_by_hand(const RoutingResult& routing, double coef, const LayerControls* controls) {
  const int64_t scopes = routing.counts.shape()[0], experts = routing.counts.shape()[1];
  double total = 0;
  for (int64_t s = 0; s < scopes; ++s) {
    for (int64_t e = 0; e < experts; ++e) {
      const double choices = double(kTokens * 2 / scopes);
      const double share = controls ? controls->fractions.data<double>()[e]
                                    : double(routing.counts.data<int64_t>()[s * experts + e]) / choices;
      total += share * routing.score_sums.data<double>()[s * experts + e];
    }
  }
  return coef * double(experts) * total / double(kTokens);
}

TEST(Transformer, BalanceLossIsTheHandComputedOneInEveryScope) {
  for (const auto scope : {BalanceScope::kMicroBatch, BalanceScope::kSequence, BalanceScope::kGlobalBatch}) {
    NetworkSettings settings = testing::tiny_settings();
    settings.moe.balance.scope = scope;
    TinyModel model(settings);
    const bool global = scope == BalanceScope::kGlobalBatch;
    std::vector<LayerControls> controls(2);
    for (LayerControls& layer : controls) {
      layer.fractions = Tensor::empty(model.allocator, Dtype::kF64, {4});
      for (int64_t e = 0; e < 4; ++e) layer.fractions.data<double>()[e] = double(e + 1) / 10;
    }
    const StepResult result = model.step(nullptr, global ? &controls : nullptr, false);
    for (size_t layer = 0; layer < 2; ++layer) {
      const RoutingResult& routing = result.routing[layer];
      EXPECT_NEAR(routing.balance_loss(), balance_by_hand(routing, 0.5, global ? &controls[layer] : nullptr), 1e-12);
      double probabilities = 0;
      for (int64_t i = 0; i < routing.score_sums.elements(); ++i) probabilities += routing.score_sums.data<double>()[i];
      EXPECT_NEAR(probabilities, double(kTokens), 1e-12);
    }
  }
}

TEST(Transformer, ChoosesByItsBiasesWhereNoControlsAreGiven) {
  TinyModel model(testing::tiny_settings());
  std::vector<Tensor> biases;
  for (int layer = 0; layer < 2; ++layer) {
    biases.push_back(Tensor::zeros(model.allocator, Dtype::kF64, {4}));
    biases.back().data<double>()[3] = 10;
    biases.back().data<double>()[0] = -std::numeric_limits<double>::infinity();
  }
  model.transformer->set_biases(biases);
  for (const RoutingResult& routing : model.evaluate().routing) {
    EXPECT_EQ(routing.counts.data<int64_t>()[0], 0);
    EXPECT_EQ(routing.counts.data<int64_t>()[3], kTokens) << "every token's first";
  }
}

// Outside training an expert goes by its threshold, not by a token's neighbours.
TEST(Transformer, ExpertsChooseByTheirThresholdsOutsideTraining) {
  NetworkSettings settings = testing::tiny_settings();
  settings.moe.router.choice = kernels::ChoiceKind::kExpert;
  settings.moe.router.allow_future_tokens = true;
  TinyModel model(settings);
  for (const RoutingResult& routing : model.step(nullptr, nullptr, false).routing) {
    for (int64_t e = 0; e < 4; ++e) EXPECT_EQ(routing.counts.data<int64_t>()[e], kTokens / 2) << "top 2 of 4";
  }
  std::vector<Tensor> thresholds;
  for (int layer = 0; layer < 2; ++layer) {
    thresholds.push_back(Tensor::zeros(model.allocator, Dtype::kF64, {4}));
    thresholds.back().data<double>()[1] = 2;  // above all scores
  }
  model.transformer->set_thresholds(thresholds);
  for (const RoutingResult& routing : model.evaluate().routing) {
    EXPECT_EQ(routing.counts.data<int64_t>()[0], kTokens);
    EXPECT_EQ(routing.counts.data<int64_t>()[1], 0);
  }
}

TEST(Transformer, AnEvenRouterCostsItsCoefficientAndTheSquaredLogOfTheExperts) {
  TinyModel model(testing::tiny_settings());
  for (const int layer : {0, 1}) {
    autograd::Parameter* router = model.store.find("layers." + std::to_string(layer) + ".moe.router.weight");
    ASSERT_NE(router, nullptr);
    std::memset(router->value.raw(), 0, router->value.bytes());
  }
  const StepResult result = model.step(nullptr, nullptr, false);
  EXPECT_NEAR(result.balance, 2 * 0.5, 1e-12);
  EXPECT_NEAR(result.z, 2 * 0.25 * std::log(4.0) * std::log(4.0), 1e-12);
}

TEST(Transformer, ADenseModelIsTheSameCodeWithoutRouting) {
  NetworkSettings settings = testing::tiny_settings();
  settings.moe = MoeSettings{};
  TinyModel model(settings);
  EXPECT_TRUE(model.transformer->experts().moe_layers().empty());
  const StepResult result = model.step();
  EXPECT_TRUE(result.routing.empty());
  EXPECT_GT(result.cross_entropy, 0);
}

// One expert that every token takes with weight 1 is the dense layer.
TEST(Transformer, OneExpertEqualsADenseLayer) {
  NetworkSettings dense = testing::tiny_settings(), single = dense;
  dense.moe = MoeSettings{};
  single.moe.num_experts = single.moe.top_k = 1;
  single.moe.shared_experts = 0;
  single.moe.ffn_hidden_size = dense.model.dense_ffn();
  TinyModel a(dense), b(single);
  for (const auto& parameter : a.store.parameters()) {
    std::string name = parameter->name;
    if (const size_t at = name.find(".mlp."); at != std::string::npos) name.replace(at, 5, ".moe.experts.");
    autograd::Parameter* twin = b.store.find(name);
    ASSERT_NE(twin, nullptr) << name;
    std::memcpy(twin->value.raw(), parameter->value.raw(), parameter->value.bytes());
  }
  EXPECT_LT(largest_difference(a.logits(a.batch), b.logits(b.batch)), 1e-12);
}

TEST(Transformer, ActiveParametersAreThoseOfMatrixProducts) {
  for (const bool tied : {true, false}) {
    NetworkSettings settings = testing::tiny_settings();
    settings.model.tie_embeddings = tied;
    settings.moe.top_k = settings.moe.num_experts;  // every expert is active
    TinyModel model(settings);
    int64_t norms = 0;
    for (const auto& parameter : model.store.parameters())
      norms += parameter->shape.rank() == 1 ? parameter->shape[0] : 0;
    const int64_t lookup = tied ? 0 : 11 * 8;
    EXPECT_EQ(model.transformer->active_parameters(), model.store.parameter_count() - norms - lookup);
    const double attention = 2.0 * 2 * 4 * 6 * (32 + 1);  // 2 layers; scores and values over half of 33 keys
    EXPECT_EQ(model.transformer->training_flops_per_token(32),
              3 * (2.0 * double(model.transformer->active_parameters()) + attention));
  }
}

TEST(Transformer, SegmentsAreUniqueCoverEveryParameterAndNameExperts) {
  TinyModel model(testing::tiny_settings());
  std::set<std::string> names;
  for (const auto& parameter : model.store.parameters()) {
    int64_t covered = 0;
    for (const autograd::Segment& segment : parameter->segments) {
      EXPECT_TRUE(names.insert(segment.name).second) << segment.name;
      EXPECT_EQ(segment.offset, covered);
      covered += segment.count();
      const size_t at = segment.name.find(".experts.");
      const bool shared = segment.name.find(".shared.") != std::string::npos;
      const int behind = static_cast<int>(model.transformer->experts().layer(0).shared_place(0));
      EXPECT_EQ(segment.expert, shared                    ? behind
                                : at == std::string::npos ? -1
                                                          : segment.name[at + 9] - '0')
          << segment.name;
    }
    EXPECT_EQ(covered, parameter->shape.elements());
  }
  for (const char* name : {"embedding.weight", "layers.1.attention.wk", "layers.0.moe.experts.3.w2",
                           "layers.1.moe.shared.w3", "layers.0.moe.router.weight", "final_norm.weight"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST(Transformer, NeedsAVocabulary) {
  NetworkSettings settings = testing::tiny_settings();
  settings.model.vocab_size = {};
  autograd::ParameterStore store;
  EXPECT_THROW(Transformer(store, settings), InternalError);
}

}  // namespace
}  // namespace cadre::model
