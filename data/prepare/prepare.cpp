#include "data/prepare/prepare.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/indexed/writer.h"
#include "data/prepare/encode_pool.h"

namespace cadre::data {
namespace {

constexpr size_t kPiecesPerThread = 4;  // in flight: what bounds memory

std::string metadata_json(const PrepareOptions& options, const Tokenizer& tokenizer, const PrepareResult& result,
                          const std::vector<std::shared_ptr<const Input>>& inputs) {
  nlohmann::ordered_json sources = nlohmann::ordered_json::array();
  for (const auto& input : inputs) {
    sources.push_back({{"path", input->name()}, {"offset", input->begin}, {"length", input->end - input->begin}});
  }
  const nlohmann::ordered_json json = {{"format_version", 1},
                                       {"tokenizer",
                                        {{"kind", config::enum_name(tokenizer.kind())},
                                         {"fingerprint", tokenizer.fingerprint()},
                                         {"vocab_size", tokenizer.vocab_size()},
                                         {"append_eod", tokenizer.end_of_document().has_value()}}},
                                       {"tokens", result.tokens},
                                       {"documents", result.documents},
                                       {"source_bytes", result.source_bytes},
                                       {"file_bytes", result.file_bytes},
                                       {"replaced_sequences", result.replaced_sequences},
                                       {"replaced_bytes", result.replaced_bytes},
                                       {"empty_documents", result.empty_documents},
                                       {"document_separator", options.document_separator},
                                       {"sources", sources}};
  // Paths and separators may be no UTF-8.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

// Feeds pieces in, takes results out in order and writes them; at most `limit` pieces are held.
class Pipeline {
 public:
  Pipeline(const PrepareOptions& options, const Tokenizer& tokenizer)
      : options_(options),
        tokenizer_(tokenizer),
        writer_(options.output, token_type_for(tokenizer.vocab_size())),
        pool_(workers(options, tokenizer)) {}

  void run(const std::vector<std::shared_ptr<const Input>>& inputs) {
    for (const auto& input : inputs) progress_.bytes_total += input->end - input->begin;
    const size_t limit = kPiecesPerThread * static_cast<size_t>(options_.threads);
    for (const auto& input : inputs) {
      PieceReader reader(input, tokenizer_,
                         {options_.document_separator, options_.piece_bytes, options_.max_line_bytes});
      for (Piece piece; reader.next(piece);) {
        if (pool_.in_flight() >= limit) write_one();
        pool_.submit(std::move(piece));
      }
    }
    while (pool_.in_flight() > 0) write_one();
    result_.file_bytes = progress_.bytes_total;
    result_.tokens = writer_.tokens();
    result_.documents = writer_.documents();
    if (result_.tokens == 0) {
      throw DataError(fmt::format("{}: the input holds no text", inputs.front()->name()));
    }
    writer_.publish(metadata_json(options_, tokenizer_, result_, inputs));
  }

  const PrepareResult& result() const { return result_; }

 private:
  static std::vector<EncodePool::Encode> workers(const PrepareOptions& options, const Tokenizer& tokenizer) {
    std::vector<EncodePool::Encode> workers;
    for (int i = 0; i < options.threads; ++i) {
      auto encoder = std::make_shared<PieceEncoder>(
          tokenizer.share(), PieceEncoder::Options{options.invalid_utf8, options.json_key, options.document_separator});
      workers.emplace_back([encoder](const Piece& piece) { return encoder->encode(piece); });
    }
    return workers;
  }

  void write_one() {
    const auto [piece, encoded] = pool_.take();
    const std::span<const int32_t> tokens = encoded.tokens;
    size_t begin = 0;
    for (const size_t end : encoded.document_ends) {
      writer_.add(tokens.subspan(begin, end - begin));
      writer_.end_document();
      begin = end;
    }
    writer_.add(tokens.subspan(begin));
    result_.source_bytes += encoded.text_bytes;
    result_.empty_documents += encoded.empty_documents;
    result_.replaced_sequences += encoded.replaced.sequences;
    result_.replaced_bytes += encoded.replaced.bytes;
    progress_.bytes_done = std::min(progress_.bytes_done + piece.bytes.size(), progress_.bytes_total);
    progress_.tokens = writer_.tokens();
    progress_.documents = writer_.documents();
    if (options_.on_progress) options_.on_progress(progress_);
  }

  const PrepareOptions& options_;
  const Tokenizer& tokenizer_;
  IndexedWriter writer_;
  EncodePool pool_;
  PrepareProgress progress_;
  PrepareResult result_;
};

}  // namespace

PrepareResult prepare(const PrepareOptions& options, const Tokenizer& tokenizer) {
  if (options.inputs.empty()) throw DataError("data prepare: got no input; wanted at least one file");
  if (options.threads < 1)
    throw DataError(fmt::format("data prepare: got {} threads; wanted 1 or more", options.threads));
  std::vector<std::shared_ptr<const Input>> inputs;
  for (const InputRange& range : options.inputs) inputs.push_back(std::make_shared<const Input>(open_input(range)));
  Pipeline pipeline(options, tokenizer);
  pipeline.run(inputs);
  return pipeline.result();
}

std::optional<TokenFileMetadata> read_metadata(const std::filesystem::path& token_file) {
  std::filesystem::path path = token_file;
  if (path.extension() == ".bin" || path.extension() == ".idx") path.replace_extension();
  path += ".meta.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  try {
    const auto json = nlohmann::json::parse(read_text_file(path));
    TokenFileMetadata metadata;
    const auto& tokenizer = json.at("tokenizer");
    metadata.tokenizer_kind = tokenizer.at("kind").get<std::string>();
    metadata.tokenizer_fingerprint = tokenizer.at("fingerprint").get<std::string>();
    metadata.vocab_size = tokenizer.at("vocab_size").get<int32_t>();
    PrepareResult& counts = metadata.counts;
    counts.tokens = json.at("tokens").get<int64_t>();
    counts.documents = json.at("documents").get<int64_t>();
    counts.source_bytes = json.at("source_bytes").get<uint64_t>();
    counts.file_bytes = json.at("file_bytes").get<uint64_t>();
    counts.replaced_sequences = json.at("replaced_sequences").get<uint64_t>();
    counts.replaced_bytes = json.at("replaced_bytes").get<uint64_t>();
    counts.empty_documents = json.at("empty_documents").get<uint64_t>();
    return metadata;
  } catch (const nlohmann::json::exception& problem) {
    throw DataError(fmt::format("{}: damaged: {}", path.string(), problem.what()));
  }
}

}  // namespace cadre::data
