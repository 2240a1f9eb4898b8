#include <fmt/core.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "core/error.h"
#include "data/indexed/token_dataset.h"
#include "data/prepare/prepare.h"
#include "data/tokenizer.h"
#include "data/tokenizers/bytes.h"
#include "data/tokenizers/train.h"
#include "launch/cli/commands.h"

namespace cadre::launch {
namespace {

[[noreturn]] void refuse(const char* option, const std::string& got, const char* wanted) {
  throw ConfigError(fmt::format("{}: got '{}', wanted {}", option, got, wanted));
}

data::TextFormat parse_format(const std::string& text) {
  if (text == "auto") return data::TextFormat::kAuto;
  if (text == "text") return data::TextFormat::kText;
  if (text == "jsonl") return data::TextFormat::kJsonl;
  refuse("--format", text, "auto, text or jsonl");
}

std::vector<data::InputRange> ranges_of(const TextArguments& text) {
  std::vector<data::InputRange> ranges;
  for (const std::string& path : text.inputs) {
    data::InputRange range;
    range.path = path;
    range.format = parse_format(text.format);
    range.offset = text.offset;
    range.length = text.length;
    range.skip_last = text.skip_last;
    range.last = text.last;
    ranges.push_back(std::move(range));
  }
  return ranges;
}

int all_cores(int threads) {
  return threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// "\n" and "\t" as people type them in a shell.
std::string unescaped(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 1 < text.size();
    if (escape && text[i + 1] == 'n')
      result += '\n';
    else if (escape && text[i + 1] == 't')
      result += '\t';
    else if (escape && text[i + 1] == '\\')
      result += '\\';
    else {
      result += text[i];
      continue;
    }
    ++i;
  }
  return result;
}

// A line that rewrites itself on a terminal, at most ten times a second.
class ProgressLine {
 public:
  void show(const data::PrepareProgress& progress) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    const double share = progress.bytes_total == 0
                             ? 1
                             : static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total);
    fmt::print(stderr, "\r{:5.1f}%  {:.1f} MB  {} tokens ", 100 * share,
               1e-6 * static_cast<double>(progress.bytes_done), progress.tokens);
  }
  void clear() const {
    if (terminal_) fmt::print(stderr, "\r{:60}\r", "");
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace

int command_data_prepare(const PrepareArguments& arguments) {
  data::TokenizerSettings settings;
  settings.append_eod = arguments.append_eod;
  std::unique_ptr<data::Tokenizer> tokenizer = arguments.tokenizer == "bytes"
                                                   ? data::make_tokenizer(settings)
                                                   : data::load_tokenizer(arguments.tokenizer, arguments.append_eod);
  ProgressLine line;
  data::PrepareOptions options;
  options.inputs = ranges_of(arguments.text);
  options.output = arguments.output;
  options.threads = all_cores(arguments.threads);
  if (arguments.invalid_utf8 == "replace")
    options.invalid_utf8 = data::InvalidUtf8::kReplace;
  else if (arguments.invalid_utf8 != "error")
    refuse("--invalid-utf8", arguments.invalid_utf8, "error or replace");
  options.document_separator = unescaped(arguments.separator);
  options.json_key = arguments.text.json_key;
  options.on_progress = [&](const data::PrepareProgress& progress) { line.show(progress); };
  const auto start = std::chrono::steady_clock::now();
  const data::PrepareResult result = data::prepare(options, *tokenizer);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  line.clear();
  const double bytes = static_cast<double>(result.source_bytes);
  fmt::print("{}: {} tokens, {} documents, {} bytes ({:.3f} bytes a token) in {:.1f} s, {:.1f} MB/s\n",
             arguments.output, result.tokens, result.documents, result.source_bytes,
             result.tokens ? bytes / static_cast<double>(result.tokens) : 0.0, seconds, 1e-6 * bytes / seconds);
  if (result.replaced_sequences > 0) {
    fmt::print("{}: {} invalid UTF-8 sequences ({} bytes) replaced by U+FFFD\n", arguments.output,
               result.replaced_sequences, result.replaced_bytes);
  }
  if (result.empty_documents > 0)
    fmt::print("{}: {} empty documents left out\n", arguments.output, result.empty_documents);
  return 0;
}

int command_data_info(const std::string& path) {
  const auto dataset = data::open_token_dataset(path);
  fmt::print("{}: {} tokens, {} documents, fingerprint {}\n", dataset->name(), dataset->tokens(), dataset->documents(),
             dataset->fingerprint());
  if (const auto metadata = data::read_metadata(path)) {
    fmt::print("tokenizer: {} {}, {} ids\nsource: {} bytes, {} invalid UTF-8 sequences replaced\n",
               metadata->tokenizer_kind, metadata->tokenizer_fingerprint, metadata->vocab_size,
               metadata->counts.source_bytes, metadata->counts.replaced_sequences);
  }
  return 0;
}

int command_tokenizer_train(const TokenizerTrainArguments& arguments) {
  data::TokenizerTrainOptions options;
  options.inputs = ranges_of(arguments.text);
  options.vocab_size = arguments.vocab_size;
  if (arguments.model == "unigram")
    options.model = data::PieceModel::kUnigram;
  else if (arguments.model == "bpe")
    options.model = data::PieceModel::kBpe;
  else
    refuse("--model", arguments.model, "bpe or unigram");
  options.sample_bytes = arguments.sample_bytes;
  options.seed = arguments.seed;
  options.across_words = arguments.across_words;
  options.json_key = arguments.text.json_key;
  const auto tokenizer = data::train_sentencepiece(options);
  data::save_tokenizer(*tokenizer, arguments.output);
  fmt::print("{}\n{}\n", arguments.output, data::describe(*tokenizer));
  return 0;
}

int command_tokenizer_info(const std::string& path) {
  fmt::print("{}\n", data::describe(*data::load_tokenizer(path)));
  return 0;
}

}  // namespace cadre::launch
