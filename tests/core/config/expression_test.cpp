#include "core/config/expression.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace cadre::config {
namespace {

const Variables kVariables{{"layer", 7}, {"wide", 512}};

double value_of(const char* text) { return evaluate(Expression(text), kVariables); }

std::string error_of(const char* text, int64_t least = 0) {
  try {
    return std::to_string(evaluate_whole(Expression(text), kVariables, least));
  } catch (const ConfigError& error) {
    return error.what();
  }
}

TEST(Expression, ComputesWhatItsLanguageSays) {
  EXPECT_EQ(value_of("8 * 2^floor(layer/4)"), 16);
  EXPECT_EQ(value_of("layer % 2 == 1"), 1);
  EXPECT_EQ(value_of("layer // 2"), 3);
  EXPECT_EQ(value_of("-7 % 3"), 2) << "the remainder of a division that rounds down";
  EXPECT_EQ(value_of("-7 // 3"), -3);
  EXPECT_EQ(value_of("1 + 7 // 2 * 3"), 10);
  EXPECT_EQ(value_of("layer < 2 || layer > 5 && not(layer == 6)"), 1);
  EXPECT_EQ(value_of("layer == 7 ? wide / 2 : wide"), 256);
  EXPECT_EQ(value_of("ceil(2.1) + round(2.5) + trunc(-2.7) + min(3, 4)"), 7);
  EXPECT_EQ(value_of("64Ki"), 65536) << "a plain number, with its unit";
}

TEST(Expression, SaysWhatIsWrong) {
  EXPECT_EQ(error_of("layer / 2"), "\"layer / 2\" is 3.5, wanted a whole number, at least 0");
  EXPECT_EQ(error_of("layer - 8"), "\"layer - 8\" is -1, wanted a whole number, at least 0");
  EXPECT_EQ(error_of("0", 1), "\"0\" is 0, wanted a whole number, at least 1");
  EXPECT_EQ(error_of("1 / 0"), "\"1 / 0\" is inf, wanted a finite number");
  EXPECT_EQ(error_of("width * 2"),
            "\"width * 2\": \"width\" is no variable or function here; variables are layer, wide");
  EXPECT_NE(error_of("(layer").find("parenthesis"), std::string::npos);
  EXPECT_NE(error_of("layer = 3").find("\"layer = 3\": "), std::string::npos) << "nothing is assigned";
  EXPECT_EQ(value_of("layer"), 7);
  EXPECT_NE(error_of("1, 2").find("2 values"), std::string::npos);
  EXPECT_NE(error_of("1 +").find("unexpected end"), std::string::npos);
}

TEST(Expression, VariablesMayUseEachOtherInAnyOrder) {
  Variables variables = kVariables;
  evaluate_all({{"a", "b * 2"}, {"b", "wide / 4"}, {"c", 3.0}}, variables);
  EXPECT_EQ(variables.at("a"), 256);
  EXPECT_EQ(variables.at("c"), 3);
  Variables others = kVariables;
  try {
    evaluate_all({{"a", "b"}, {"b", "a"}}, others);
    FAIL() << "a circle";
  } catch (const ConfigError& error) {
    EXPECT_EQ(std::string(error.what()).substr(0, 3), "a: ");
  }
}

TEST(Expression, ConditionsAreWordsOrNumbers) {
  EXPECT_TRUE(evaluate_condition("true", {}));
  EXPECT_FALSE(evaluate_condition("false", {}));
  EXPECT_EQ(value_of("not(false) + true"), 2);
  EXPECT_TRUE(evaluate_condition("layer > 3", kVariables));
  EXPECT_FALSE(evaluate_condition(0.0, {}));
}

}  // namespace
}  // namespace cadre::config
