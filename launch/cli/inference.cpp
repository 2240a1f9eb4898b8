#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/held_out.h"
#include "launch/cli/commands.h"
#include "launch/cli/together.h"
#include "launch/inference/evaluate.h"
#include "launch/inference/generate.h"
#include "launch/inference/loaded_model.h"
#include "parallel/comm/agreement.h"

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

std::unique_ptr<const data::HeldOut> open_held_out(const LoadedModel& loaded, const EvalArguments& arguments) {
  data::HeldOut::Options options;
  options.seq_length = loaded.settings.data.seq_length;
  options.stride = static_cast<int>(std::clamp<int64_t>(arguments.stride, -1, int64_t{1} << 30));
  options.vocab_size = static_cast<int32_t>(*loaded.settings.model.vocab_size.value);
  options.reset_at_documents = loaded.settings.data.reset_at_documents;
  return std::make_unique<const data::HeldOut>(std::vector{arguments.data}, *loaded.tokenizer,
                                               "the checkpoint's tokenizer", options);
}

void print(const LoadedModel& loaded, const Evaluation& result, bool as_json) {
  if (as_json) {
    const nlohmann::json json{{"checkpoint", loaded.checkpoint.string()},
                              {"step", loaded.step},
                              {"tokens", result.tokens},
                              {"loss", result.loss},
                              {"perplexity", result.perplexity},
                              {"source_bytes", result.source_bytes},
                              {"bits_per_byte", result.bits_per_byte}};
    std::puts(json.dump().c_str());
    return;
  }
  fmt::print("{} (step {})\nloss {:.5f} nats a token, perplexity {:.3f}, {} tokens, each scored once\n",
             loaded.checkpoint.string(), loaded.step, result.loss, result.perplexity, result.tokens);
  if (result.source_bytes > 0) {
    fmt::print("{:.4f} bits per byte over {} bytes (the model's own size is not counted)\n", result.bits_per_byte,
               result.source_bytes);
  }
}

}  // namespace

int command_eval(const EvalArguments& arguments) {
  Session session;
  return run_together(session, [&] {
    require(arguments.batch_size >= 1, "--batch-size", std::to_string(arguments.batch_size), "at least 1");
    session.start(device_with(arguments.threads), Dtype::kF32);
    LoadedModel loaded = load_model(session, arguments.checkpoint);
    std::unique_ptr<const data::HeldOut> held_out;
    parallel::all_ok_after(session.world(), [&] { held_out = open_held_out(loaded, arguments); });
    parallel::agree_on(session.world(), held_out->fingerprint(), "the fingerprint of the token file", ExitCode::kData);
    const parallel::Mesh mesh(session.world(), {.data = session.ranks()});
    const Evaluation result =
        evaluate(session.context(), *loaded.model, *held_out, {arguments.batch_size, held_out->source_bytes()}, mesh);
    if (session.rank() == 0) print(loaded, result, arguments.json);
    return 0;
  });
}

int command_generate(const GenerateArguments& arguments) {
  Session session;
  return run_together(session, [&] {
    require_one_rank(session, "generate");
    require(arguments.tokens >= 0, "--tokens", std::to_string(arguments.tokens), "0 or more");
    require(arguments.temperature >= 0, "--temperature", std::to_string(arguments.temperature), "0 or more");
    require(arguments.top_k >= 0, "--top-k", std::to_string(arguments.top_k), "0 or more");
    require(arguments.top_p > 0 && arguments.top_p <= 1, "--top-p", std::to_string(arguments.top_p),
            "over 0, at most 1");
    session.start(device_with(arguments.threads), Dtype::kF32);
    LoadedModel loaded = load_model(session, arguments.checkpoint);
    generate(session, loaded, arguments.prompt, arguments.tokens,
             {arguments.temperature, arguments.top_k, arguments.top_p, arguments.seed}, [](std::string_view text) {
               std::fwrite(text.data(), 1, text.size(), stdout);
               std::fflush(stdout);
             });
    std::fputc('\n', stdout);
    return 0;
  });
}

}  // namespace cadre::launch
