#include "launch/cli/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>

#include "core/config/messages.h"
#include "core/config/problems.h"
#include "core/error.h"
#include "launch/cli/commands.h"
#include "launch/cli/experts_options.h"
#include "launch/session.h"

namespace cadre::launch {
namespace {

using Action = std::function<int()>;

void add_config_arguments(CLI::App& app, ConfigArguments& arguments) {
  app.add_option("config", arguments.path, "YAML config")->required();
  app.add_option("--set", arguments.overrides, "KEY=VALUE overrides, e.g. optimizer.lr=1e-3")->allow_extra_args(false);
}

void add_train(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* train = app.add_subcommand("train", "Train from a config; under mpirun on many ranks");
  add_config_arguments(*train, arguments->config);
  train->add_option("--resume", arguments->resume, "auto | must | never | PATH of a checkpoint")->capture_default_str();
  train->callback([&action, arguments] { action = [arguments] { return command_train(*arguments); }; });
}

void add_verify(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<VerifyArguments>();
  CLI::App* verify = app.add_subcommand("verify", "Prove the gradients of layouts against one rank in FP64");
  add_config_arguments(*verify, arguments->config);
  verify->add_option("--layout", arguments->layouts, "dp=4,ep=2,pp=2,schedule=zero_bubble; repeatable")
      ->allow_extra_args(false);
  verify->add_option("--ranks", arguments->ranks, "Without --layout: all layouts of 1 to so many ranks (threads)")
      ->capture_default_str();
  verify->add_option("--least-ranks", arguments->least_ranks, "And of no fewer than so many")->capture_default_str();
  verify->add_flag("--schedules", arguments->schedules, "Every pipeline with every schedule, instead of in turn");
  verify->add_flag("--shrink", arguments->shrink, "The model's structure with small sizes");
  verify
      ->add_option("--fault", arguments->fault,
                   "Put in a fault, to see it found: skipped_reduction | skipped_experts | "
                   "doubled_reduction | unsynchronised_router | dropped_router_loss | dropped_stage_loss | "
                   "unsummed_embedding")
      ->capture_default_str();
  verify->callback([&action, arguments] { action = [arguments] { return command_verify(*arguments); }; });
}

void add_plan(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<PlanArguments>();
  CLI::App* plan =
      app.add_subcommand("plan", "What layouts of a number of ranks need, without training: memory, traffic, time");
  add_config_arguments(*plan, arguments->config);
  plan->add_option("--ranks", arguments->ranks, "Ranks to plan for")->capture_default_str();
  plan->add_option("--device", arguments->device, "cpu: this machine, measured | h100 | h200 | b200")
      ->capture_default_str();
  plan->add_option("--layout", arguments->layout, "dp=4,ep=2,pp=2, or part of it: that one in full, not the best ones");
  plan->add_option("--top", arguments->top, "Layouts to list")->capture_default_str();
  plan->add_flag("--json", arguments->json, "For scripts");
  plan->callback([&action, arguments] { action = [arguments] { return command_plan(*arguments); }; });
}

void add_config(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<ConfigArguments>();
  CLI::App* config = app.add_subcommand("config", "Look at configs")->require_subcommand(1);
  CLI::App* show = config->add_subcommand("show", "Print the resolved config, and what set each value");
  add_config_arguments(*show, *arguments);
  const auto experts = std::make_shared<bool>(false);
  show->add_flag("--experts", *experts, "The experts of every layer instead");
  show->callback([&action, arguments, experts] {
    action = [arguments, experts] { return command_config_show(*arguments, *experts); };
  });
  CLI::App* check = config->add_subcommand("check", "Check a config");
  add_config_arguments(*check, *arguments);
  check->callback([&action, arguments] { action = [arguments] { return command_config_check(*arguments); }; });
  CLI::App* docs = config->add_subcommand("docs", "Print docs/config.md");
  docs->callback([&action] { action = [] { return command_config_docs(); }; });
}

void add_text_arguments(CLI::App& app, TextArguments& text) {
  app.add_option("inputs", text.inputs, "Text or JSONL files")->required();
  app.add_option("--format", text.format, "auto | text | jsonl")->capture_default_str();
  app.add_option("--json-key", text.json_key, "Key of the text in JSONL")->capture_default_str();
  app.add_option("--offset", text.offset, "First byte of each file")->capture_default_str();
  app.add_option("--length", text.length, "Bytes of each file");
  app.add_option("--skip-last", text.skip_last, "Bytes left out at the end of each file")->capture_default_str();
  app.add_option("--last", text.last, "Only the last so many bytes of each file");
}

void add_data(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<PrepareArguments>();
  CLI::App* data = app.add_subcommand("data", "Token files")->require_subcommand(1);
  CLI::App* prepare = data->add_subcommand("prepare", "Turn text into PREFIX.bin and PREFIX.idx");
  add_text_arguments(*prepare, arguments->text);
  prepare->add_option("-o,--output", arguments->output, "PREFIX of the token files")->required();
  prepare->add_option("--tokenizer", arguments->tokenizer, "`bytes`, or a tokenizer file")->required();
  prepare->add_option("--invalid-utf8", arguments->invalid_utf8, "error | replace")->capture_default_str();
  prepare->add_option("--separator", arguments->separator, "Ends a document of a text file; \\n is a newline");
  prepare->add_option("--append-eod", arguments->append_eod, "End documents by a token: true | false");
  prepare->add_option("--threads", arguments->threads, "0: all cores")->capture_default_str();
  prepare->callback([&action, arguments] { action = [arguments] { return command_data_prepare(*arguments); }; });
  auto path = std::make_shared<std::string>();
  CLI::App* info = data->add_subcommand("info", "Describe a token file");
  info->add_option("path", *path, "PREFIX, or one of its files")->required();
  info->callback([&action, path] { action = [path] { return command_data_info(*path); }; });
}

void add_tokenizer(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<TokenizerTrainArguments>();
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "Tokenizers")->require_subcommand(1);
  CLI::App* train = tokenizer->add_subcommand("train", "Train a lossless SentencePiece tokenizer");
  add_text_arguments(*train, arguments->text);
  train->add_option("-o,--output", arguments->output, "The tokenizer's file")->required();
  train->add_option("--vocab-size", arguments->vocab_size, "Pieces")->capture_default_str();
  train->add_option("--model", arguments->model, "bpe | unigram")->capture_default_str();
  train->add_option("--sample-bytes", arguments->sample_bytes, "Text to train on")->capture_default_str();
  train->add_option("--seed", arguments->seed, "Of the sample")->capture_default_str();
  train->add_flag("--across-words", arguments->across_words, "Pieces may hold several words");
  train->callback([&action, arguments] { action = [arguments] { return command_tokenizer_train(*arguments); }; });
  auto path = std::make_shared<std::string>();
  CLI::App* info = tokenizer->add_subcommand("info", "Describe a tokenizer");
  info->add_option("path", *path, "The tokenizer's file")->required();
  info->callback([&action, path] { action = [path] { return command_tokenizer_info(*path); }; });
}

void add_checkpoint(CLI::App& app, Action& action) {
  auto paths = std::make_shared<std::vector<std::string>>(2);
  CLI::App* checkpoint = app.add_subcommand("checkpoint", "Checkpoints")->require_subcommand(1);
  CLI::App* info = checkpoint->add_subcommand("info", "Tensors, sizes and run state");
  info->add_option("path", (*paths)[0], "A checkpoint, or a run (its newest counts)")->required();
  info->callback([&action, paths] { action = [paths] { return command_checkpoint_info((*paths)[0]); }; });
  CLI::App* check = checkpoint->add_subcommand("check", "Verify every file");
  check->add_option("path", (*paths)[0], "A checkpoint, or a run (its newest counts)")->required();
  check->callback([&action, paths] { action = [paths] { return command_checkpoint_check((*paths)[0]); }; });
  CLI::App* diff = checkpoint->add_subcommand("diff", "Compare two checkpoints, whatever their layouts");
  diff->add_option("first", (*paths)[0], "A checkpoint, or a run")->required();
  diff->add_option("second", (*paths)[1], "Another")->required();
  diff->callback([&action, paths] { action = [paths] { return command_checkpoint_diff((*paths)[0], (*paths)[1]); }; });
}

void add_eval(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<EvalArguments>();
  CLI::App* eval = app.add_subcommand("eval", "Loss, perplexity and bits per byte on held-out tokens");
  eval->add_option("checkpoint", arguments->checkpoint, "A checkpoint, or a run (its newest counts)")->required();
  eval->add_option("--data", arguments->data, "Token file")->required();
  eval->add_option("--batch-size", arguments->batch_size, "Windows at a time")->capture_default_str();
  eval->add_option("--stride", arguments->stride, "Tokens that each window scores; 0: the sequence length")
      ->capture_default_str();
  eval->add_option("--threads", arguments->threads, "0: all cores")->capture_default_str();
  eval->add_flag("--json", arguments->json, "Print one JSON object");
  eval->callback([&action, arguments] { action = [arguments] { return command_eval(*arguments); }; });
}

void add_generate(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<GenerateArguments>();
  CLI::App* generate = app.add_subcommand("generate", "Continue a prompt");
  generate->add_option("checkpoint", arguments->checkpoint, "A checkpoint, or a run (its newest counts)")->required();
  generate->add_option("--prompt", arguments->prompt, "Text to continue");
  generate->add_option("--tokens", arguments->tokens, "Tokens to generate")->capture_default_str();
  generate->add_option("--temperature", arguments->temperature, "0: always the likeliest")->capture_default_str();
  generate->add_option("--top-k", arguments->top_k, "Choose among the k likeliest; 0: all")->capture_default_str();
  generate->add_option("--top-p", arguments->top_p, "Choose among the likeliest with this total probability")
      ->capture_default_str();
  generate->add_option("--seed", arguments->seed, "Of the choices")->capture_default_str();
  generate->add_option("--threads", arguments->threads, "0: all cores")->capture_default_str();
  generate->callback([&action, arguments] { action = [arguments] { return command_generate(*arguments); }; });
}

void add_report(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<ReportArguments>();
  CLI::App* report = app.add_subcommand("report", "One HTML page about a run");
  report->add_option("run", arguments->run, "A run's directory")->required();
  report->add_option("-o,--output", arguments->output, "The page; by default report.html in the run's directory");
  report
      ->add_option("--tokens", arguments->tokens,
                   "Tokens of each data source to run the newest checkpoint over, to see what experts take; 0: none")
      ->capture_default_str();
  report->add_option("--threads", arguments->threads, "0: all cores")->capture_default_str();
  report->callback([&action, arguments] { action = [arguments] { return command_report(*arguments); }; });
}

void add_bench(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<BenchArguments>();
  CLI::App* bench = app.add_subcommand("bench", "Measure this machine and the kernels");
  bench->add_option("what", arguments->what, "peer | ops | gemm | layer | optimizer | prepare | checkpoint | all")
      ->capture_default_str();
  bench->add_option("--threads", arguments->threads, "0: all cores")->capture_default_str();
  bench->add_option("--seconds", arguments->seconds, "For each measurement")->capture_default_str();
  bench->add_option("--text", arguments->text, "A text that `prepare` encodes; none: generated words");
  bench->add_flag("--json", arguments->json, "Print one JSON object");
  bench->callback([&action, arguments] { action = [arguments] { return command_bench(*arguments); }; });
}

// CLI11 would say only that a command is wanted; empty when all is well.
std::string problem_of_command(const CLI::App& app, int argc, char** argv) {
  const CLI::App* level = &app;
  for (int i = 1; i < argc && argv[i][0] != '-'; ++i) {
    const std::vector<const CLI::App*> commands = level->get_subcommands([](const CLI::App*) { return true; });
    if (commands.empty()) break;
    const auto found =
        std::find_if(commands.begin(), commands.end(), [&](const CLI::App* a) { return a->get_name() == argv[i]; });
    if (found == commands.end()) {
      std::vector<std::string> names;
      for (const CLI::App* command : commands) names.push_back(command->get_name());
      return "no such command: " + config::in_quotes(argv[i]) + config::suggestion(argv[i], names);
    }
    level = *found;
  }
  return {};
}

// Under mpirun all ranks are called alike: one of them says what is wrong.
int refuse(const std::string& problem) {
  Session session;
  try {
    return session.together([&]() -> int { throw ConfigError(problem); });
  } catch (const ReportedError& error) {
    return static_cast<int>(error.code());
  }
}

}  // namespace

int run_command_line(int argc, char** argv) {
  CLI::App app{"cadre: trains mixture-of-experts language models", "cadre"};
  app.set_version_flag("--version", std::string("cadre ") + CADRE_VERSION);
  app.require_subcommand(1);
  Action action;
  add_train(app, action);
  add_plan(app, action);
  add_verify(app, action);
  add_eval(app, action);
  add_generate(app, action);
  add_report(app, action);
  add_data(app, action);
  add_tokenizer(app, action);
  add_checkpoint(app, action);
  add_experts(app, action);
  add_config(app, action);
  add_bench(app, action);
  const std::string problem = problem_of_command(app, argc, argv);
  if (!problem.empty()) return refuse(problem);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& failure) {
    return failure.get_exit_code() == 0 ? app.exit(failure)
                                        : refuse(config::one_line(failure.what()) + "; see cadre --help");
  }
  return action();
}

}  // namespace cadre::launch
