#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "launch/cli/commands.h"
#include "launch/inference/evaluate.h"
#include "launch/inference/generate.h"

namespace cadre::launch {
namespace {

DeviceSettings device_with(int64_t threads) {
  DeviceSettings device;
  if (threads > 0) device.threads = threads;
  return device;
}

void require(bool fits, const char* option, const std::string& got, const char* wanted) {
  if (!fits) throw ConfigError(fmt::format("{}: got {}, wanted {}", option, got, wanted));
}

}  // namespace

int command_eval(const EvalArguments& arguments) {
  require(arguments.batch_size >= 1, "--batch-size", std::to_string(arguments.batch_size), "at least 1");
  Session session(device_with(arguments.threads), Dtype::kF32);
  LoadedModel loaded = load_model(session, arguments.checkpoint);
  const EvalResult result = evaluate(session, loaded, arguments.data, {arguments.batch_size, arguments.stride});
  if (session.rank() != 0) return 0;
  if (arguments.json) {
    const nlohmann::json json{{"checkpoint", loaded.checkpoint.string()},
                              {"step", loaded.step},
                              {"tokens", result.tokens},
                              {"loss", result.loss},
                              {"perplexity", result.perplexity},
                              {"source_bytes", result.source_bytes},
                              {"bits_per_byte", result.bits_per_byte}};
    std::puts(json.dump().c_str());
    return 0;
  }
  fmt::print("{} (step {})\nloss {:.5f} nats a token, perplexity {:.3f}, {} tokens, each scored once\n",
             loaded.checkpoint.string(), loaded.step, result.loss, result.perplexity, result.tokens);
  if (result.source_bytes > 0) {
    fmt::print("{:.4f} bits per byte over {} bytes (the model's own size is not counted)\n", result.bits_per_byte,
               result.source_bytes);
  }
  return 0;
}

int command_generate(const GenerateArguments& arguments) {
  require(arguments.tokens >= 0, "--tokens", std::to_string(arguments.tokens), "0 or more");
  require(arguments.temperature >= 0, "--temperature", std::to_string(arguments.temperature), "0 or more");
  require(arguments.top_k >= 0, "--top-k", std::to_string(arguments.top_k), "0 or more");
  require(arguments.top_p > 0 && arguments.top_p <= 1, "--top-p", std::to_string(arguments.top_p), "over 0, at most 1");
  Session session(device_with(arguments.threads), Dtype::kF32);
  LoadedModel loaded = load_model(session, arguments.checkpoint);
  const bool prints = session.rank() == 0;
  generate(session, loaded, arguments.prompt, arguments.tokens,
           {arguments.temperature, arguments.top_k, arguments.top_p, arguments.seed}, [&](std::string_view text) {
             if (!prints) return;
             std::fwrite(text.data(), 1, text.size(), stdout);
             std::fflush(stdout);
           });
  if (prints) std::fputc('\n', stdout);
  return 0;
}

}  // namespace cadre::launch
