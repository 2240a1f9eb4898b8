// Operations on experts: what a model computes stays where it can, and everything that belongs to an expert follows it.

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "launch/experts/expert_file.h"
#include "launch/experts/offline.h"
#include "tests/launch/experts/surgery_fixture.h"

namespace cadre::launch {
namespace {

using namespace testing;
using model::ExpertOperationKind;
using model::ExpertOperationSettings;

constexpr double kRounding = 1e-12;

ExpertOperationSettings operation(ExpertOperationKind kind, const std::string& experts) {
  ExpertOperationSettings settings;
  settings.kind = kind;
  settings.experts = experts;
  settings.noise = 0;
  return settings;
}

struct Router {
  const char* name;
  autograd::ScoreKind score;
  bool renormalise;
};
constexpr Router kRouters[] = {{"softmax", autograd::ScoreKind::kSoftmax, true},
                               {"softmax as it is", autograd::ScoreKind::kSoftmax, false},
                               {"sigmoid", autograd::ScoreKind::kSigmoid, true},
                               {"sigmoid as it is", autograd::ScoreKind::kSigmoid, false}};

model::NetworkSettings network_with(const Router& router) {
  model::NetworkSettings network = small_network();
  network.moe.router.score = router.score;
  network.moe.router.renormalise = router.renormalise;
  return network;
}

TEST(Surgery, CopiesOfAllExpertsWithMoreOfThemForATokenComputeTheSame) {
  for (const Router& router : kRouters) {
    SCOPED_TRACE(router.name);
    const model::NetworkSettings network = network_with(router);
    TrainedModel run(network);
    run.train(3);
    for (const int64_t copies : {1, 2}) {
      ExpertOperationSettings clone = operation(ExpertOperationKind::kClone, "layers.1.experts.*");
      clone.count = copies;
      clone.top_k = 2 * (copies + 1);
      const auto after = edited(run, network, plan(network, clone));
      EXPECT_EQ(after->layout().layer(1).experts(), 4 * (copies + 1));
      EXPECT_EQ(after->layout().layer(0).experts(), 4);
      EXPECT_LT(largest_difference(run.logits(), after->logits()), kRounding);
      clone.noise = 0.05;
      EXPECT_GT(largest_difference(run.logits(), edited(run, network, plan(network, clone))->logits()), 1e-6);
    }
  }
}

TEST(Surgery, PartsOfAllExpertsWithMoreOfThemForATokenComputeTheSame) {
  for (const Router& router : kRouters) {
    SCOPED_TRACE(router.name);
    const model::NetworkSettings network = network_with(router);
    TrainedModel run(network);
    run.train(3);
    ExpertOperationSettings split = operation(ExpertOperationKind::kSplit, "layers.*.experts.*");
    split.count = 3;
    split.top_k = 6;
    const auto after = edited(run, network, plan(network, split));
    EXPECT_EQ(after->layout().layer(0).experts(), 12);
    EXPECT_EQ(after->layout().layer(0).routed.at(0).kind.ffn_hidden_size, 8);
    EXPECT_LT(largest_difference(run.logits(), after->logits()), kRounding);
  }
}

TEST(Surgery, MergingCopiesTakesThemBack) {
  const model::NetworkSettings network = small_network();
  TrainedModel run(network);
  run.train(3);
  model::NetworkSettings doubled = network;
  ExpertOperationSettings clone = operation(ExpertOperationKind::kClone, "layers.0.experts.2");
  const ExpertEdit first = plan(network, clone);
  first.apply(doubled.moe);
  const auto two = edited(run, network, first);
  ExpertOperationSettings merge = operation(ExpertOperationKind::kMerge, "layers.0.experts.*");
  const ExpertEdit second = plan_edit(doubled, merge, {{0, 2}, {0, 3}}, {{1, 1, 3, 2, 1}, {1, 1, 1, 1}});
  const auto one = edited(*two, doubled, second);
  EXPECT_EQ(one->layout().layer(0).ids, (std::vector<int64_t>{0, 1, 5, 3}));
  EXPECT_LT(largest_difference(run.logits(), one->logits()), kRounding);
}

TEST(Surgery, AnExpertThatNobodyChoosesIsNotMissed) {
  const model::NetworkSettings network = small_network();
  TrainedModel run(network);
  run.train(3);
  // A row against every token that is looked at: with the bias it is never among the first two.
  run.state().controls[1].bias = Tensor::zeros(*make_host_allocator(), Dtype::kF64, Shape{4});
  run.state().controls[1].bias.data<double>()[2] = -INFINITY;
  run.state().model().set_biases({Tensor(), run.state().controls[1].bias});
  const std::vector<double> before = run.logits();
  run.state().controls[1].bias = Tensor();
  const auto after = edited(run, network, plan(network, operation(ExpertOperationKind::kPrune, "layers.1.experts.2")));
  EXPECT_EQ(after->layout().layer(1).ids, (std::vector<int64_t>{0, 1, 3}));
  EXPECT_LT(largest_difference(before, after->logits()), kRounding);
}

TEST(Surgery, ADenseModelGoesOnAsExperts) {
  model::NetworkSettings network = small_network();
  network.moe.num_experts = 0;
  TrainedModel run(network);
  run.train(3);
  SavedState state;
  const cadre::testing::TemporaryDirectory directory;
  state.reader = std::make_unique<CheckpointReader>(run.save(directory.path()));
  state.settings.model = network.model;
  state.settings.moe = network.moe;
  const auto after = edited(run, network, plan_upcycle(state, 0, 1, 6, 2, 0));
  EXPECT_EQ(after->layout().layer(1).experts(), 6);
  EXPECT_LT(largest_difference(run.logits(), after->logits()), kRounding);
  const char* const moment = "/optimizer/layers.0.moe.experts.5.w1/exp_avg";
  EXPECT_EQ(after->tensor(moment), run.tensor("/optimizer/layers.0.mlp.w1/exp_avg"));
  EXPECT_EQ(after->state().scalars().at("segment_steps").at("layers.0.moe.experts.5.w1"), 3);
  after->train(2);
  EXPECT_GT(largest_difference(after->tensor("/model/layers.0.moe.experts.5.w1"),
                               after->tensor("/model/layers.0.moe.experts.1.w1")),
            0);
}

TEST(Surgery, EverythingOfAnExpertFollowsIt) {
  model::NetworkSettings network = small_network();
  network.moe.router.bias_update_rate = 0.01;
  TrainedModel run(network);
  run.train(5);
  const auto clone = operation(ExpertOperationKind::kClone, "layers.1.experts.1");
  const ExpertEdit edit = plan(network, clone);
  EXPECT_EQ(edit.notes, (std::vector<std::string>{"layers.1.experts.4 is a copy of layers.1.experts.1"}));
  const auto after = edited(run, network, edit);
  for (const char* name :
       {"/model/layers.1.moe.experts.%.w1", "/model/layers.1.moe.experts.%.w2",
        "/optimizer/layers.1.moe.experts.%.w3/exp_avg", "/optimizer/layers.1.moe.experts.%.w2/exp_avg_sq"}) {
    const auto named = [&](char id) {
      std::string text = name;
      text[text.find('%')] = id;
      return text;
    };
    EXPECT_EQ(after->tensor(named('4')), run.tensor(named('1'))) << name;
    EXPECT_EQ(after->tensor(named('3')), run.tensor(named('3'))) << name;
  }
  for (const char* name : {"/model/layers.1.moe.router.weight", "/optimizer/layers.1.moe.router.weight/exp_avg"}) {
    std::vector<double> wanted = run.tensor(name);
    const std::vector<double> row(wanted.begin() + 16, wanted.begin() + 32);
    wanted.insert(wanted.begin() + 32, row.begin(), row.end());
    EXPECT_EQ(after->tensor(name), wanted) << name;
  }
  const nlohmann::json before = run.state().scalars(), now = after->state().scalars();
  std::vector<double> biases = before.at("expert_biases").at(1);
  biases.insert(biases.begin() + 2, biases[1]);
  EXPECT_EQ(now.at("expert_biases").at(1).get<std::vector<double>>(), biases);
  EXPECT_EQ(now.at("segment_steps").at("layers.1.moe.experts.4.w1"), 5);
  const std::vector<double> then = before.at("expert_fractions").at(1), fractions = now.at("expert_fractions").at(1);
  EXPECT_NEAR(fractions[1], then[1] / 2, 1e-12) << "a copy takes half";
  EXPECT_NEAR(fractions[2], then[1] / 2, 1e-12);
  EXPECT_NEAR(fractions[4], then[3], 1e-12) << "nobody else's changes";
  EXPECT_EQ(now.at("expert_load_average").at(0), before.at("expert_load_average").at(0));
}

TEST(Surgery, NewExpertsBeginAnewWhereTheBusiestIs) {
  const model::NetworkSettings network = small_network();
  TrainedModel run(network);
  run.train(3);
  const auto again = operation(ExpertOperationKind::kReinitialise, "layers.0.experts.1");
  const auto after = edited(run, network, plan(network, again, {{0.5, 2, 1, 1.5}, {1, 1, 1, 1}}));
  EXPECT_EQ(after->layout().layer(0).ids, (std::vector<int64_t>{0, 4, 2, 3}));
  const std::vector<double> old = run.tensor("/model/layers.0.moe.router.weight"),
                            rows = after->tensor("/model/layers.0.moe.router.weight");
  EXPECT_TRUE(std::equal(rows.begin() + 16, rows.begin() + 32, old.begin() + 48)) << "of 3, the busiest that stays";
  EXPECT_TRUE(std::equal(rows.begin(), rows.begin() + 16, old.begin()));
  for (const double moment : after->tensor("/optimizer/layers.0.moe.experts.4.w1/exp_avg")) EXPECT_EQ(moment, 0);
  EXPECT_EQ(after->state().scalars().at("segment_steps").at("layers.0.moe.experts.4.w1"), 0);
  EXPECT_GT(largest_difference(after->tensor("/model/layers.0.moe.experts.4.w1"),
                               TrainedModel(network).tensor("/model/layers.0.moe.experts.1.w1")),
            0.01)
      << "it is not what the old one was born as";
}

TEST(Surgery, AnExpertInAFileComesBackAsItWas) {
  const model::NetworkSettings network = small_network();
  TrainedModel run(network);
  run.train(3);
  const cadre::testing::TemporaryDirectory directory;
  SavedState state;
  state.reader = std::make_unique<CheckpointReader>(run.save(directory.path()));
  state.settings.model = network.model;
  state.settings.moe = network.moe;
  const std::filesystem::path file = directory.path() / "expert.safetensors";
  export_expert(*state.reader, state.settings, {1, 3}, file);
  run.train(2);
  SavedState later;
  later.settings = state.settings;
  later.reader = std::make_unique<CheckpointReader>(run.save(directory.path()));
  const auto back = edited(run, network, plan_import(later, file, "", "layers.1.experts.3"));
  const auto saved = [&](const std::string& name) {
    const std::shared_ptr<Allocator> allocator = make_host_allocator();
    const Tensor tensor = Tensor::empty(*allocator, Dtype::kF64, state.reader->tensor(name).shape);
    state.reader->read(name, tensor);
    return std::vector<double>(tensor.data<double>(), tensor.data<double>() + tensor.elements());
  };
  for (const char* name : {"/model/layers.1.moe.experts.3.w1", "/model/layers.1.moe.experts.3.w2",
                           "/optimizer/layers.1.moe.experts.3.w3/exp_avg_sq"}) {
    EXPECT_EQ(back->tensor(name), saved(name)) << name;
    EXPECT_NE(back->tensor(name), run.tensor(name)) << name;
  }
  EXPECT_EQ(back->tensor("/model/layers.1.moe.experts.2.w1"), run.tensor("/model/layers.1.moe.experts.2.w1"));
  EXPECT_EQ(back->state().scalars().at("segment_steps").at("layers.1.moe.experts.3.w1"), 3);
  // And into a group of its own, with its router's row.
  const auto guest = edited(run, network, plan_import(later, file, "layers.0.experts.guest", ""));
  EXPECT_EQ(guest->tensor("/model/layers.0.moe.experts.4.w1"), saved("/model/layers.1.moe.experts.3.w1"));
  const std::vector<double> rows = guest->tensor("/model/layers.0.moe.router.weight"),
                            row = saved("/model/layers.1.moe.router.weight");
  EXPECT_TRUE(std::equal(rows.begin() + 64, rows.end(), row.begin() + 48));
}

// Groups of a router are runs of places, with weights of their own.
TEST(Surgery, RouterGroupsKeepWhomTheyHave) {
  model::NetworkSettings network = small_network();
  network.moe.router.groups = 2;
  network.moe.router.kept_groups = 2;
  network.moe.router.hierarchical = true;
  TrainedModel run(network);
  run.train(2);
  ExpertOperationSettings clone = operation(ExpertOperationKind::kClone, "layers.0.experts.*");
  clone.top_k = 4;
  const auto after = edited(run, network, plan(network, clone));
  EXPECT_EQ(after->layout().layer(0).ids, (std::vector<int64_t>{0, 4, 1, 5, 2, 6, 3, 7}));
  EXPECT_LT(largest_difference(run.logits(), after->logits()), kRounding);
  clone.experts = "layers.0.experts.0..1";
  try {
    plan(network, clone);
    FAIL() << "experts would change groups";
  } catch (const ConfigError& failure) {
    EXPECT_NE(std::string(failure.what()).find("would be in another of the router's 2 groups"), std::string::npos);
  }
}

TEST(Surgery, RefusesWhatCannotBe) {
  const model::NetworkSettings network = small_network();
  const auto refusal = [&](const ExpertOperationSettings& settings) -> std::string {
    try {
      plan(network, settings);
    } catch (const ConfigError& failure) {
      return failure.what();
    }
    return "nothing refused";
  };
  EXPECT_NE(refusal(operation(ExpertOperationKind::kPrune, "layers.0.experts.*")).find("no routed experts"),
            std::string::npos);
  EXPECT_NE(refusal(operation(ExpertOperationKind::kPrune, "layers.0.experts.1..3")).find("2 is more than the 1"),
            std::string::npos);
  auto split = operation(ExpertOperationKind::kSplit, "layers.0.experts.0");
  split.count = 7;
  EXPECT_NE(refusal(split).find("7 parts of its 24 hidden units"), std::string::npos);
  auto many = operation(ExpertOperationKind::kSplit, "layers.0.experts.*");
  many.count = 24;
  many.top_k = 96;
  EXPECT_NE(refusal(many).find("is 96 in layer 0, wanted at most 64"), std::string::npos);
  many.top_k = 0;
  EXPECT_NE(refusal(many).find("top_k: got 0"), std::string::npos);
  EXPECT_NE(refusal(operation(ExpertOperationKind::kAdd, "layers.0.experts.3")).find("wanted a group"),
            std::string::npos);
}

}  // namespace
}  // namespace cadre::launch
