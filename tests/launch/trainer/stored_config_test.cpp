#include "launch/trainer/stored_config.h"

#include <gtest/gtest.h>

#include "core/config/config.h"
#include "core/error.h"
#include "core/io/file.h"
#include "data/indexed/writer.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/verify.h"
#include "launch/inference/loaded_model.h"
#include "launch/trainer/resolve.h"
#include "launch/trainer/run.h"
#include "tests/core/io/temporary_directory.h"

namespace cadre::launch {
namespace {

using cadre::testing::message_of;
using cadre::testing::TemporaryDirectory;

TEST(StoredConfig, UnknownKeysAreNamedAndIgnored) {
  const StoredConfig stored =
      read_stored_config("step-7", "run: {seed: 5, colour: red}\nmodel: {hidden_size: 64}\nformer: {a: 1, b: [2]}\n");
  EXPECT_EQ(stored.settings.run.seed, 5u);
  EXPECT_EQ(stored.settings.model.hidden_size, 64);
  EXPECT_EQ(stored.unknown, (std::vector<std::string>{"former", "run.colour"}));
  EXPECT_EQ(stored.warning("step-7"),
            "step-7: its config has keys that this version does not know, ignored: former, run.colour");
  EXPECT_EQ(read_stored_config("step-7", "run: {seed: 5}\n").warning("step-7"), "");
}

TEST(StoredConfig, ManyUnknownKeysAreCounted) {
  StoredConfig stored;
  for (int i = 0; i < 11; ++i) stored.unknown.push_back("k" + std::to_string(i));
  EXPECT_TRUE(stored.warning("c").ends_with("k6, k7 and 3 more")) << stored.warning("c");
}

TEST(StoredConfig, EverythingElseIsStillAnError) {
  for (const char* text : {"run: {seed: -1}\n", "run: [1]\n", "model: {hidden_size: wide}\n", "a: 1\na: 2\n", "- 1\n",
                           "include: x.yaml\n", "{"}) {
    const std::string message = message_of<CheckpointError>([&] { read_stored_config("step-7", text); });
    EXPECT_TRUE(message.starts_with("step-7: its config cannot be read: ")) << message;
  }
}

TEST(StoredConfig, ReadsBackWhatARunStores) {
  Settings settings;
  settings.data.validation = {{"a"}, {"b"}};
  settings.validation.tokens = 0;
  const StoredConfig stored = read_stored_config("step-7", config::print_resolved(settings));
  EXPECT_TRUE(stored.unknown.empty());
  EXPECT_EQ(config::print_resolved(stored.settings), config::print_resolved(settings));
}

// A checkpoint that another version of the program made is evaluated and resumed.
class OtherVersion : public ::testing::Test {
 protected:
  OtherVersion() : session_(DeviceSettings{.threads = int64_t{1}}, Dtype::kF32) {
    data::IndexedWriter writer(directory_.path() / "tokens", data::TokenType::kU8);
    std::vector<int32_t> ids(1000);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * i % 251);
    writer.add(ids);
    writer.publish("{}");
    std::filesystem::remove(directory_.path() / "tokens.meta.json");
    settings_.run.directory = (directory_.path() / "run").string();
    settings_.run.steps = 2;
    settings_.data.train = {{(directory_.path() / "tokens").string(), 1}};
    settings_.data.seq_length = 16;
    settings_.model.hidden_size = 16;
    settings_.model.num_layers = 1;
    settings_.model.num_heads = 2;
    settings_.moe.num_experts = 2;
    settings_.batch = {2, 2};
    settings_.monitor.metrics = settings_.monitor.tensorboard = false;
    settings_.monitor.peak_gflops = 1;
  }
  void edit_stored_config(const std::function<void(std::string&)>& edit) const {
    const std::filesystem::path step = directory_.path() / "run/checkpoints/step-00000002";
    Manifest manifest = load_manifest(step);
    std::string text = manifest.header.state.at("config");
    edit(text);
    manifest.header.state["config"] = text;
    atomic_write(step / kManifestName, bytes_of(write_manifest(manifest)));
  }

  TemporaryDirectory directory_;
  Session session_;
  Settings settings_;
};

TEST_F(OtherVersion, IsEvaluatedAndResumed) {
  train_run(session_, {settings_, parse_resume("never")});
  edit_stored_config([](std::string& text) { text += "former_section:\n  width: 3\n"; });
  EXPECT_EQ(load_model(session_, settings_.run.directory).settings.model.hidden_size, 16);
  settings_.run.steps = 3;
  train_run(session_, {settings_, parse_resume("must")});
  EXPECT_EQ(load_model(session_, settings_.run.directory).step, 3);
  const std::string log = read_file(directory_.path() / "run/log.txt", 1 << 20);
  EXPECT_NE(log.find("keys that this version does not know, ignored: former_section"), std::string::npos) << log;
}

TEST_F(OtherVersion, WithAnotherModelIsRefused) {
  train_run(session_, {settings_, parse_resume("never")});
  edit_stored_config([](std::string& text) { text += "former_section: 1\n"; });
  settings_.model.num_heads = 4;
  try {
    train_run(session_, {settings_, parse_resume("must")});
    FAIL() << "resumed";
  } catch (const Error& failure) {
    EXPECT_EQ(failure.code(), ExitCode::kCheckpoint);
    EXPECT_NE(std::string(failure.what()).find("num_heads: 2"), std::string::npos) << failure.what();
  }
}

}  // namespace
}  // namespace cadre::launch
