#pragma once
// The program's subcommands. Each takes plain arguments and returns an exit code, or throws a typed error.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cadre::launch {

struct ConfigArguments {
  std::string path;
  std::vector<std::string> overrides;  // --set a.b=c
};

struct TrainArguments {
  ConfigArguments config;
  std::string resume = "auto";
};
int command_train(const TrainArguments& arguments);

struct ExpertsArguments {
  std::string checkpoint;
  std::string output;   // a run's directory; of export a file
  std::string experts;  // a selector
  std::string where = "1";
  std::optional<int64_t> count, top_k, ffn_hidden_size;
  std::string activation;
  double noise = 0.01;
};
struct UpcycleArguments {
  std::string layers = "*";
  int64_t experts = 8, top_k = 2;
};
struct ImportArguments {
  std::string file, into, replace;
};
int command_experts_list(const std::string& checkpoint);
// `operation`: add, clone, split, merge, prune or reinitialise.
int command_experts_edit(const std::string& operation, const ExpertsArguments& arguments);
int command_experts_upcycle(const UpcycleArguments& upcycle, const ExpertsArguments& arguments);
int command_experts_export(const ExpertsArguments& arguments);
int command_experts_import(const ImportArguments& import, const ExpertsArguments& arguments);

struct VerifyArguments {
  ConfigArguments config;
  std::vector<std::string> layouts;  // "dp=4,ep=2,pp=2"; none: all of least_ranks .. ranks
  int ranks = 4, least_ranks = 1;
  bool schedules = false;
  bool shrink = false;
  std::string fault = "none";
};
int command_verify(const VerifyArguments& arguments);

// `experts`: the layout of the experts instead of the config.
int command_config_show(const ConfigArguments& arguments, bool experts);
int command_config_check(const ConfigArguments& arguments);
int command_config_docs();

// Text that a tokenizer is trained on, or that is turned into tokens.
struct TextArguments {
  std::vector<std::string> inputs;
  std::string format = "auto";
  std::string json_key = "text";
  std::optional<uint64_t> last, length;
  uint64_t offset = 0, skip_last = 0;
};

struct PrepareArguments {
  TextArguments text;
  std::string output;
  std::string tokenizer;  // a file, or "bytes"
  std::string invalid_utf8 = "error";
  std::string separator;
  std::optional<bool> append_eod;
  int threads = 0;  // 0: all cores
};
int command_data_prepare(const PrepareArguments& arguments);
int command_data_info(const std::string& path);

struct TokenizerTrainArguments {
  TextArguments text;
  std::string output;
  int vocab_size = 4096;
  std::string model = "bpe";
  uint64_t sample_bytes = uint64_t{8} << 20;
  uint64_t seed = 1;
  bool across_words = false;
};
int command_tokenizer_train(const TokenizerTrainArguments& arguments);
int command_tokenizer_info(const std::string& path);

int command_checkpoint_info(const std::string& path);
int command_checkpoint_check(const std::string& path);
int command_checkpoint_diff(const std::string& first, const std::string& second);

struct PlanArguments {
  ConfigArguments config;
  int ranks = 1;
  std::string device = "cpu";
  std::string layout;  // of the one to be shown in full; empty: the best ones
  size_t top = 10;
  bool json = false;
};
int command_plan(const PlanArguments& arguments);

struct EvalArguments {
  std::string checkpoint;
  std::string data;
  int64_t batch_size = 8;
  int64_t stride = 0;  // 0: the sequence length
  int64_t threads = 0;
  bool json = false;
};
int command_eval(const EvalArguments& arguments);

struct GenerateArguments {
  std::string checkpoint;
  std::string prompt;
  int64_t tokens = 200;
  double temperature = 0.8;
  int64_t top_k = 0;  // 0: all
  double top_p = 1.0;
  uint64_t seed = 1;
  int64_t threads = 0;
};
int command_generate(const GenerateArguments& arguments);

struct ReportArguments {
  std::string run;
  std::string output;          // empty: report.html in the run's directory
  std::string tokens = "16k";  // of each source, to see what experts take
  int64_t threads = 0;
};
int command_report(const ReportArguments& arguments);

struct BenchArguments {
  std::string what = "all";  // peer, ops, gemm, layer, optimizer, prepare, checkpoint, all
  int64_t threads = 0;
  double seconds = 10;
  std::string text;
  bool json = false;
};
int command_bench(const BenchArguments& arguments);

}  // namespace cadre::launch
