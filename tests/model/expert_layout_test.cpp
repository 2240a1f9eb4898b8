#include "model/expert_layout.h"

#include <gtest/gtest.h>

#include "core/config/config.h"
#include "model/expert_selector.h"

namespace cadre::model {
namespace {

struct Sections {
  ModelSettings model;
  MoeSettings moe;
};

}  // namespace
}  // namespace cadre::model

template <>
struct cadre::config::Schema<cadre::model::Sections> {
  static void fields(Fields<cadre::model::Sections>& f) {
    f.add("model", &cadre::model::Sections::model, "");
    f.add("moe", &cadre::model::Sections::moe, "");
  }
};

namespace cadre::model {
namespace {

NetworkSettings network_of(const std::string& text) {
  const auto sections =
      config::parse_text<Sections>("test", "model: {hidden_size: 64, num_layers: 8, ffn_hidden_size: 100}\n" + text);
  return {sections.model, sections.moe, {}};
}
ExpertLayout layout_of(const std::string& text) { return ExpertLayout(network_of(text)); }

std::string error_of(const std::string& text) {
  try {
    layout_of(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(ExpertLayout, PlainKeysAreOneGroup) {
  const ExpertLayout layout =
      layout_of("moe: {num_experts: 4, top_k: 2, shared_experts: 1, dense_layers: 3, ffn_hidden_size: 48}");
  EXPECT_EQ(layout.moe_layers(), (std::vector<int64_t>{3, 4, 5, 6, 7}));
  EXPECT_EQ(layout.moe_index(4), 1u);
  const LayerExperts& layer = layout.layer(3);
  EXPECT_EQ(layer.experts(), 4);
  EXPECT_EQ(layer.routed.at(0).kind.ffn_hidden_size, 48);
  EXPECT_EQ(layer.shared.at(0).count, 1);
  EXPECT_EQ(layout.classes(), (std::vector<size_t>{0, 0, 0, 1, 1, 1, 1, 1}));
  EXPECT_TRUE(layout_of("moe: {num_experts: 0}").moe_layers().empty());
}

TEST(ExpertLayout, GroupsFollowTheirExpressions) {
  const ExpertLayout layout = layout_of(R"yaml(
moe:
  top_k: 2
  variables: {wide: "hidden_size * 3", narrow: wide // 4}
  groups:
    - {name: code, count: "2 * 2^floor(layer / 4)", ffn_hidden_size: wide}
    - {name: odd, when: layer % 2 == 1, ffn_hidden_size: narrow, activation: gelu, init_std: 0.5}
    - {name: "tier{i}", each: "i = 0..2", count: i + 1, ffn_hidden_size: 16 * 2^i}
    - {name: always, shared: true, count: 2}
)yaml");
  const LayerExperts& even = layout.layer(0);
  ASSERT_EQ(even.routed.size(), 4u);
  EXPECT_EQ(even.experts(), 2 + 1 + 2 + 3);
  EXPECT_EQ(even.routed[3], (ExpertSet{"tier2", 5, 3, {64, kernels::Activation::kSwiGlu, 0.02}}));
  EXPECT_EQ(even.shared, (std::vector<ExpertSet>{{"always", 0, 2, {100, kernels::Activation::kSwiGlu, 0.02}}}));
  const LayerExperts& odd = layout.layer(5);
  EXPECT_EQ(odd.routed[0].count, 4);
  EXPECT_EQ(odd.routed[1], (ExpertSet{"odd", 4, 1, {48, kernels::Activation::kGelu, 0.5}}));
  EXPECT_EQ(odd.set_of(4).name, "odd");
  EXPECT_EQ(odd.set_of(10).name, "tier2");
  EXPECT_EQ(even.kinds_in_a_row(), 4);
  EXPECT_EQ(even.kind_index(2), 1);
  EXPECT_EQ(layout.fewest_computing(), 8);
  EXPECT_EQ(layout.most_experts(), 11);
  EXPECT_EQ(layout.classes(), (std::vector<size_t>{0, 1, 0, 1, 2, 3, 2, 3}));
}

TEST(ExpertLayout, LaterPatternsWinKeyByKey) {
  const ExpertLayout layout = layout_of(R"yaml(
moe:
  num_experts: 0
  groups: [{name: some, count: 4}]
  layers:
    - {when: layer >= 4, top_k: 1, groups: [{name: one, count: 3}]}
    - {when: layer == 6, top_k: layer // 2}
    - {when: layer < 2, dense: true}
)yaml");
  EXPECT_FALSE(layout.is_moe(1));
  EXPECT_EQ(layout.layer(2).top_k, 2);
  EXPECT_EQ(layout.layer(4).top_k, 1);
  EXPECT_EQ(layout.layer(4).routed[0].name, "one");
  EXPECT_EQ(layout.layer(6).top_k, 3);
  EXPECT_EQ(layout.layer(6).routed[0].name, "one");
}

TEST(ExpertLayout, ErrorsNameKeyLayerAndExpression) {
  EXPECT_EQ(error_of("moe: {groups: [{name: a, count: layer / 2 + 2}]}"),
            "moe.groups[0].count: in layer 1: \"layer / 2 + 2\" is 2.5, wanted a whole number, at least 0");
  EXPECT_EQ(error_of("moe: {top_k: 4, groups: [{name: a, count: layer + 2}]}"),
            "moe.top_k: 4 is more than the 2 routed experts of layer 0");
  EXPECT_EQ(error_of("moe: {groups: [{name: a}, {name: a}], top_k: 1}"),
            "moe.groups[1].name: \"a\" names two groups of layer 0");
  EXPECT_NE(error_of("moe: {groups: [{name: a, each: \"i = 0..2\"}]}").find("moe.groups[0].name: \"a\" lacks {i}"),
            std::string::npos);
  EXPECT_NE(error_of("moe: {groups: [{name: \"a{i}\", each: 0..2}]}").find("moe.groups[0].each: got \"0..2\""),
            std::string::npos);
  EXPECT_NE(error_of("moe: {groups: [{name: a, when: layer > 0}], top_k: 1}")
                .find("moe.groups: no routed experts in layer 0"),
            std::string::npos);
  EXPECT_NE(error_of("moe: {variables: {layer: 3}, num_experts: 2}").find("moe.variables: layer has a meaning"),
            std::string::npos);
  EXPECT_NE(error_of("moe: {groups: [{name: Big}]}").find("test:2: moe.groups[0].name: got \"Big\""),
            std::string::npos);
  EXPECT_NE(error_of("moe: {num_experts: 2, groups: [{name: a}]}").find("moe.num_experts: is given beside groups"),
            std::string::npos);
}

TEST(ExpertLayout, SimpleExpertsComeLastAndHaveNoPlaceAmongThoseThatCompute) {
  const ExpertLayout layout = layout_of(R"yaml(
moe:
  top_k: 2
  groups:
    - {name: full, count: 3}
    - {name: copy, count: 2, computation: copy}
    - {name: constant, count: 1, computation: constant}
    - {name: shared, shared: true}
)yaml");
  const LayerExperts& experts = layout.layer(0);
  EXPECT_EQ(experts.experts(), 6);
  EXPECT_EQ(experts.computing(), 3);
  EXPECT_EQ(experts.places, 2);
  EXPECT_EQ(experts.kinds_in_a_row(), 1);
  EXPECT_EQ(experts.routed[2].kind.ffn_hidden_size, 0);
  EXPECT_EQ(layout.most_experts(), 6);
  EXPECT_EQ(layout.fewest_computing(), 3);
  EXPECT_EQ(error_of("moe: {top_k: 1, groups: [{name: a}, {name: b, computation: zero}, {name: c}]}"),
            "moe.groups[2].computation: \"c\" computes, and stands behind a group of layer 0 that does not; wanted "
            "groups of computation zero, copy and constant last");
  EXPECT_EQ(
      error_of("moe: {top_k: 1, groups: [{name: a, count: layer, computation: full}, {name: b, computation: zero}]}"),
      "moe.groups: no expert of layer 0 computes; wanted a group with computation: full");
  EXPECT_NE(error_of("moe: {groups: [{name: a, computation: copy, ffn_hidden_size: 3}]}")
                .find("moe.groups[0].ffn_hidden_size: is given, and experts of computation: copy have no"),
            std::string::npos);
}

TEST(ExpertLayout, WhereExpertsChooseEveryOneHasAPlace) {
  EXPECT_EQ(
      layout_of("moe: {num_experts: 4, top_k: 2, router: {choice: expert, allow_future_tokens: true}}").layer(0).places,
      4);
  EXPECT_NE(error_of("moe: {num_experts: 4, router: {choice: expert}}")
                .find("moe.router.choice: expert lets later tokens decide"),
            std::string::npos);
}

TEST(ExpertSelector, NamesExperts) {
  const ExpertLayout layout = layout_of(R"yaml(
moe:
  groups: [{name: code, count: 3}, {name: prose, when: layer % 2 == 1, count: 2}]
  layers: [{when: layer > 3, dense: true}]
)yaml");
  const auto resolve = [&](const char* text) { return ExpertSelector(text).resolve(layout); };
  EXPECT_EQ(resolve("layers.3.experts.4"), (std::vector<ExpertPlace>{{3, 4}}));
  EXPECT_EQ(resolve("layers.*.experts.prose"), (std::vector<ExpertPlace>{{1, 3}, {1, 4}, {3, 3}, {3, 4}}));
  EXPECT_EQ(resolve("layers.0..1.experts.code[1..2]"), (std::vector<ExpertPlace>{{0, 1}, {0, 2}, {1, 1}, {1, 2}}));
  EXPECT_EQ(resolve("layers.1.experts.prose[1]"), (std::vector<ExpertPlace>{{1, 4}}));
  EXPECT_EQ(resolve("layers.0.experts.1..9"), (std::vector<ExpertPlace>{{0, 1}, {0, 2}}));
  EXPECT_EQ(resolve("layers.*.experts.*").size(), 3u + 5u + 3u + 5u);
}

TEST(ExpertSelector, NamesSharedGroupsAsAWhole) {
  const ExpertLayout layout = layout_of(
      "moe: {top_k: 1, groups: [{name: a, count: 2}, {name: always, count: 3, shared: true}], layers: [{when: layer < "
      "6, "
      "dense: true}]}");
  using Places = std::vector<ExpertPlace>;
  EXPECT_EQ(ExpertSelector("layers.*.experts.always").resolve(layout), (Places{{6, 2}, {7, 2}}));
  EXPECT_EQ(ExpertSelector("layers.6.experts.*").resolve(layout), (Places{{6, 0}, {6, 1}}));
  EXPECT_THROW(ExpertSelector("layers.*.experts.always[0]").resolve(layout), ConfigError);
  EXPECT_EQ(name_of({6, 2}, layout), "layers.6.experts.always");
  EXPECT_EQ(layout.layer(6).set_of(2).count, 3);
  const ExpertLayout plain = layout_of("moe: {num_experts: 2, shared_experts: 1, dense_layers: 7}");
  EXPECT_EQ(ExpertSelector("layers.*.experts.shared").resolve(plain), (Places{{7, 2}}));
}

TEST(ExpertSelector, SaysWhatIsWrong) {
  const ExpertLayout layout = layout_of("moe: {groups: [{name: code, count: 3}]}");
  const auto error = [&](const char* text) -> std::string {
    try {
      ExpertSelector(text).resolve(layout);
    } catch (const ConfigError& failure) {
      return failure.what();
    }
    return "no error";
  };
  EXPECT_NE(error("layers.0.experts.cod").find("did you mean \"code\"?"), std::string::npos);
  EXPECT_NE(error("layers.9.experts.0").find("no expert has this name; the model has 8 layers"), std::string::npos);
  for (const char* text :
       {"", "layers", "layers.0", "experts.0", "layers.x.experts.0", "layers.0.experts.", "layers.0.experts.code[",
        "layers.0.experts.code[3..1]", "layers.-1.experts.0", "layers.0.experts.code[0]x", "layers..experts.0"}) {
    EXPECT_NE(error(text).find("wanted such as layers.3.experts.17"), std::string::npos) << text << ": " << error(text);
  }
}

TEST(ExpertLayout, EditedLayersKeepIdsAndAreWrittenOutAgain) {
  const std::string text = R"yaml(
moe:
  top_k: 2
  groups: [{name: general, count: 4}, {name: code, count: 2, ffn_hidden_size: 32}, {name: always, shared: true}]
  edited_layers:
    - layer: 3
      top_k: 1
      next_id: 9
      groups:
        - {name: general, ids: [0, 8, 3], ffn_hidden_size: 100, activation: swiglu, init_std: 0.02}
        - {name: code, ids: [5], ffn_hidden_size: 32, activation: gelu, init_std: 0.02}
        - {name: always, count: 1, ffn_hidden_size: 100, activation: swiglu, init_std: 0.02}
)yaml";
  const NetworkSettings network = network_of(text);
  const ExpertLayout layout(network);
  const LayerExperts& layer = layout.layer(3);
  EXPECT_EQ(layer.experts(), 4);
  EXPECT_EQ(layer.top_k, 1);
  EXPECT_EQ(layer.ids, (std::vector<int64_t>{0, 8, 3, 5}));
  EXPECT_EQ(layer.place_of(8), 1);
  EXPECT_EQ(layer.place_of(1), -1);
  EXPECT_EQ(layer.next_id(), 9);
  EXPECT_EQ(layer.set_of(3).kind.activation, kernels::Activation::kGelu);
  EXPECT_EQ(layer.shared.at(0).count, 1);
  EXPECT_EQ(layout.layer(2).experts(), 6);
  EXPECT_EQ(ExpertSelector("layers.3.experts.8").resolve(layout), (std::vector<ExpertPlace>{{3, 1}}));
  EXPECT_EQ(ExpertSelector("layers.3.experts.general[1..2]").resolve(layout),
            (std::vector<ExpertPlace>{{3, 1}, {3, 2}}));
  EXPECT_TRUE(ExpertSelector("layers.3.experts.1").resolve(layout).empty());
  EXPECT_EQ(name_of({3, 1}, layout), "layers.3.experts.8");

  NetworkSettings again = network;
  again.moe.edited_layers = {written_out(2, layout.layer(2)), written_out(3, layer)};
  const ExpertLayout twin(again);
  EXPECT_EQ(twin.layer(3), layer);
  EXPECT_EQ(twin.layer(2).routed, layout.layer(2).routed);
  EXPECT_EQ(twin.layer(2).shared, layout.layer(2).shared);
}

TEST(ExpertLayout, EditedLayersThatMakeNoSenseAreRefused) {
  const auto edited = [](const std::string& groups, const char* top_k = "1") {
    return error_of(std::string("moe: {num_experts: 4, edited_layers: [{layer: 1, next_id: 6, top_k: ") + top_k +
                    ", groups: [" + groups + "]}]}");
  };
  EXPECT_NE(edited("{name: a, ids: [0, 1, 1], ffn_hidden_size: 8}").find("id 1 is there twice"), std::string::npos);
  EXPECT_NE(edited("{name: a, ids: [6], ffn_hidden_size: 8}").find("not below next_id 6"), std::string::npos);
  EXPECT_NE(edited("{name: a, count: 2, ffn_hidden_size: 8}").find("no routed experts"), std::string::npos);
  EXPECT_NE(edited("{name: a, ffn_hidden_size: 8}").find("wanted ids"), std::string::npos);
  EXPECT_NE(edited("{name: a, ids: [0], ffn_hidden_size: 8}, {name: a, ids: [1], ffn_hidden_size: 8}")
                .find("names two groups"),
            std::string::npos);
  EXPECT_NE(edited("{name: a, ids: [0], ffn_hidden_size: 8}", "2").find("2 is more than the 1 routed experts"),
            std::string::npos);
}

}  // namespace
}  // namespace cadre::model
