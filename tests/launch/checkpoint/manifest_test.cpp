#include "launch/checkpoint/manifest.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/error.h"

namespace cadre::launch {
namespace {

Manifest example() {
  Manifest manifest;
  manifest.header = {"run-a", 100, "c0ffee", {{"tokens", 18446744073709551615u}, {"scale", 0.1}, {"text", "é\n\""}}};
  manifest.ranks = 2;
  const std::string hash(32, 'a');
  manifest.files = {{shard_name(0, 2), 1000, hash}, {shard_name(1, 2), 2000, hash}};
  manifest.tensors["/model/x"] = {
      Dtype::kBF16,
      {4, 6},
      {{0, "/model/x", {{0, 0}, {2, 6}}}, {1, "/model/x", {{2, 0}, {2, 3}}}, {1, "/model/x@2,3", {{2, 3}, {2, 3}}}}};
  manifest.tensors["/model/scale"] = {Dtype::kF32, {}, {{1, "/model/scale", {}}}};
  return manifest;
}

std::string body_of(const std::string& text) { return text.substr(text.find('\n') + 1); }

std::string with(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Manifest, ComesBackAsWritten) {
  const std::string text = write_manifest(example());
  const Manifest back = parse_manifest(text);
  EXPECT_EQ(write_manifest(back), text);
  EXPECT_EQ(back.header.step, 100);
  EXPECT_EQ(back.header.state["tokens"], 18446744073709551615u);
  EXPECT_EQ(back.tensors.at("/model/x").pieces[2].dataset, "/model/x@2,3");
  EXPECT_TRUE(nlohmann::json::accept(text)) << "the file is plain JSON";
}

TEST(Manifest, EveryFlippedBitAndEveryTruncationIsNoticed) {
  const std::string text = write_manifest(example());
  for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string damaged = text;
    damaged[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    ASSERT_THROW(parse_manifest(damaged), CheckpointError) << "bit " << bit;
  }
  for (size_t size = 0; size < text.size(); ++size) {
    ASSERT_THROW(parse_manifest(std::string_view(text).substr(0, size)), CheckpointError) << size;
  }
  EXPECT_THROW(parse_manifest(text + " "), CheckpointError);
}

// With a right hash, so that the checks behind it are reached.
TEST(Manifest, WrongContentsAreRefusedEvenWhenTheHashIsRight) {
  const std::string body = body_of(write_manifest(example()));
  EXPECT_NO_THROW(parse_manifest(seal_manifest(body)));
  const std::pair<const char*, const char*> edits[] = {
      {"\"version\":1", "\"version\":2"},
      {"\"step\":100", "\"step\":-1"},
      {"\"step\":100", "\"step\":1.5"},
      {"cadre-checkpoint", "other"},
      {"\"state\":{", "\"stat\":{"},
      {"\"bytes\":1000", "\"bytes\":\"1000\""},
      {"shard-00000-of-00002.h5", "../../etc/passwd"},
      {"shard-00000-of-00002.h5", "shard-00001-of-00002.h5"},
      {"\"dtype\":\"bf16\"", "\"dtype\":\"f8\""},
      {"\"shape\":[4,6]", "\"shape\":[4,7]"},
      {"\"shape\":[4,6]", "\"shape\":[9999999999999,9999999999999]"},
      {"\"shape\":[4,6]", "\"shape\":[4,6,1,1,1]"},
      {"\"shape\":[4,6]", "\"shape\":[4,-6]"},
      {"\"offset\":[2,0]", "\"offset\":[1,0]"},
      {"\"offset\":[2,0]", "\"offset\":[2,18446744073709551615]"},
      {"\"shard\":1", "\"shard\":2"},
      {"\"shard\":1", "\"shard\":99999999999"},
      {"\"/model/x\":", "\"model/x\":"},
      {"/model/x@2,3", "/../x"},
      {"\"pieces\":[{\"offset\":[],\"shape\":[],\"shard\":1}]", "\"pieces\":[]"},
  };
  for (const auto& [from, to] : edits) {
    EXPECT_THROW(parse_manifest(seal_manifest(with(body, from, to))), CheckpointError) << from << " -> " << to;
  }
  EXPECT_THROW(parse_manifest(seal_manifest("")), CheckpointError);
  EXPECT_THROW(parse_manifest(seal_manifest("}")), CheckpointError);
  EXPECT_THROW(parse_manifest(seal_manifest(with(body, "\"scale\":0.1", "\"scale\":" + std::string(100000, '[')))),
               CheckpointError);
  const std::string deep = std::string(70, '[') + std::string(70, ']');
  EXPECT_THROW(parse_manifest(seal_manifest(with(body, "\"scale\":0.1", "\"scale\":" + deep))), CheckpointError);
}

TEST(Manifest, RandomDamageBehindARightHashThrowsNothingElse) {
  const std::string body = body_of(write_manifest(example()));
  uint32_t random = 1;
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = body;
    for (int edit = 0; edit < 1 + round % 3; ++edit) {
      random = random * 1664525 + 1013904223;
      const size_t at = (random >> 8) % damaged.size();
      random = random * 1664525 + 1013904223;
      if (round % 2 == 0) damaged[at] = "0129,:{}[]\"-.e\xff"[(random >> 8) % 15];
      if (round % 2 == 1) damaged.erase(at, 1 + (random >> 8) % 9);
    }
    try {
      parse_manifest(seal_manifest(damaged));
    } catch (const CheckpointError&) {
    }
  }
}

TEST(Manifest, StateThatJsonCannotHoldIsRefusedByKey) {
  Manifest manifest = example();
  manifest.header.state["nested"]["loss"] = std::numeric_limits<double>::infinity();
  try {
    write_manifest(manifest);
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("/nested/loss"), std::string::npos) << error.what();
  }
  manifest = example();
  manifest.header.state["text"] = "\xff\xfe";
  EXPECT_THROW(write_manifest(manifest), CheckpointError);
}

}  // namespace
}  // namespace cadre::launch
