#include "model/settings.h"

#include <gtest/gtest.h>

#include "core/config/config.h"
#include "core/error.h"

namespace cadre::model {
namespace {

template <class S>
std::string error_of(std::string_view text) {
  try {
    config::parse_text<S>("t.yaml", text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(ModelSettings, AutoFollowsTheOtherSizes) {
  const auto s = config::parse_text<ModelSettings>("t.yaml", "hidden_size: 96\nnum_heads: 6\n");
  EXPECT_EQ(s.kv_heads(), 6);
  EXPECT_EQ(s.head_size(), 16);
  EXPECT_EQ(s.dense_ffn(), 256);
  const auto given = config::parse_text<ModelSettings>("t.yaml", "num_kv_heads: 2\nhead_dim: 10\nffn_hidden_size: 7\n");
  EXPECT_EQ(given.kv_heads(), 2);
  EXPECT_EQ(given.head_size(), 10);
  EXPECT_EQ(given.dense_ffn(), 7);
}

TEST(ModelSettings, RejectsHeadsThatDoNotFitAndNamesTheKey) {
  EXPECT_NE(error_of<ModelSettings>("hidden_size: 10\nnum_heads: 4\n").find("num_heads"), std::string::npos);
  EXPECT_NE(error_of<ModelSettings>("num_heads: 4\nnum_kv_heads: 3\n").find("num_kv_heads"), std::string::npos);
  EXPECT_NE(error_of<ModelSettings>("head_dim: 7\n").find("head_dim"), std::string::npos);
  EXPECT_EQ(error_of<ModelSettings>("hidden_size: 10\nnum_heads: 4\nhead_dim: 4\n"), "");
}

TEST(MoeSettings, TakesExpertsCapacityAndPolicy) {
  const auto s =
      config::parse_text<MoeSettings>("t.yaml", "num_experts: 8\ncapacity_factor: 1.25\ndrop_policy: position\n");
  EXPECT_EQ(s.num_experts, 8);
  EXPECT_EQ(s.capacity_factor, 1.25);
  EXPECT_EQ(s.drop_policy, kernels::DropPolicy::kByPosition);
  EXPECT_FALSE(config::parse_text<MoeSettings>("t.yaml", "capacity_factor: null\n").capacity_factor.has_value());
}

TEST(MoeSettings, RejectsMoreChoicesThanExperts) {
  EXPECT_NE(error_of<MoeSettings>("num_experts: 2\ntop_k: 3\n").find("top_k"), std::string::npos);
  EXPECT_EQ(error_of<MoeSettings>("num_experts: 0\ntop_k: 3\n"), "");
}

TEST(RecomputeSettings, PartsCountInSelectiveModeOnly) {
  const auto selective = config::parse_text<RecomputeSettings>("t.yaml", "mode: selective\nparts: [attention]\n");
  EXPECT_TRUE(selective.part(RecomputePart::kAttention));
  EXPECT_FALSE(selective.part(RecomputePart::kNorms));
  EXPECT_FALSE(selective.layers());
  const auto full = config::parse_text<RecomputeSettings>("t.yaml", "mode: full\n");
  EXPECT_TRUE(full.layers());
  EXPECT_FALSE(full.part(RecomputePart::kNorms));
}

TEST(NetworkSettings, ExpertsAreAsWideAsDenseLayersUnlessSaid) {
  NetworkSettings s;
  EXPECT_EQ(s.expert_ffn(), s.model.dense_ffn());
  s.moe.ffn_hidden_size = 5;
  EXPECT_EQ(s.expert_ffn(), 5);
}

template <class S>
void expect_round_trip() {
  const std::string printed = config::print_resolved(S{});
  EXPECT_EQ(config::print_resolved(config::parse_text<S>("t.yaml", printed)), printed);
}

TEST(NetworkSettings, DefaultsPrintAndParseBack) {
  expect_round_trip<ModelSettings>();
  expect_round_trip<MoeSettings>();
  expect_round_trip<RecomputeSettings>();
}

}  // namespace
}  // namespace cadre::model
