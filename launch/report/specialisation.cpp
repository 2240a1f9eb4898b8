#include "launch/report/specialisation.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "core/error.h"
#include "data/held_out.h"
#include "launch/inference/loaded_model.h"
#include "launch/trainer/step_work.h"

namespace cadre::launch {
namespace {

constexpr size_t kTokensShown = 8;
constexpr int64_t kBatch = 4;  // windows of a forward

using TokenCounts = std::unordered_map<int32_t, int64_t>;

// Choices of one layer.
struct LayerCounts {
  std::vector<TokenCounts> of_expert;           // by id
  std::vector<std::vector<int64_t>> of_source;  // [expert][source]
};

class Counter {
 public:
  Counter(Session& session, LoadedModel& loaded, int64_t tokens) : session_(session), loaded_(loaded), tokens_(tokens) {
    for (const int64_t layer : loaded.model->experts().moe_layers())
      layers_[layer].of_expert.resize(static_cast<size_t>(loaded.model->experts().layer(layer).experts()));
  }

  void count(const std::string& source) {
    data::HeldOut::Options options;
    options.seq_length = loaded_.settings.data.seq_length;
    options.vocab_size = static_cast<int32_t>(*loaded_.settings.model.vocab_size.value);
    options.reset_at_documents = loaded_.settings.data.reset_at_documents;
    options.tokens = tokens_;
    const data::HeldOut windows({source}, *loaded_.tokenizer, "the checkpoint's tokenizer", options);
    sources_.push_back(source);
    for (auto& [layer, counts] : layers_) {
      counts.of_source.resize(counts.of_expert.size());
      for (std::vector<int64_t>& of_expert : counts.of_source) of_expert.push_back(0);
    }
    for (int64_t first = 0; first < windows.windows(); first += kBatch) count(windows.load(first, kBatch));
  }

  const std::map<int64_t, LayerCounts>& layers() const { return layers_; }
  const TokenCounts& tokens() const { return seen_; }
  int64_t total() const { return total_; }
  const std::vector<std::string>& sources() const { return sources_; }

 private:
  void count(const data::Batch& batch) {
    autograd::Tape tape(session_.context(), /*record=*/false);
    model::ForwardInputs inputs;
    inputs.options.training = false;
    const model::TransformerOutput out = loaded_.model->forward(
        tape, to_tokens(session_.context(), batch, loaded_.settings.data.reset_at_documents), inputs);
    for (const int32_t token : batch.tokens) ++seen_[token];
    total_ += static_cast<int64_t>(batch.tokens.size());
    for (const model::RoutingResult& routing : out.routing) {
      LayerCounts& counts = layers_.at(routing.layer);
      const int64_t choices = routing.ids.shape()[1];
      for (int64_t i = 0; i < routing.ids.elements(); ++i) {
        const int32_t expert = routing.ids.data<int32_t>()[i];
        if (expert < 0) continue;
        ++counts.of_expert[static_cast<size_t>(expert)][batch.tokens[static_cast<size_t>(i / choices)]];
        ++counts.of_source[static_cast<size_t>(expert)].back();
      }
    }
  }

  Session& session_;
  LoadedModel& loaded_;
  int64_t tokens_, total_ = 0;
  std::vector<std::string> sources_;
  TokenCounts seen_;
  std::map<int64_t, LayerCounts> layers_;
};

// A token's part of the mutual information of expert and token, share x log(lift), puts it in order: neither what is
// frequent everywhere nor what occurs once.
std::vector<TokenShare> own_tokens(const TokenCounts& of_expert, int64_t tokens, const Counter& counter,
                                   const data::Tokenizer& tokenizer) {
  struct Candidate {
    double weight;
    int32_t token;
    TokenShare share;
  };
  std::vector<Candidate> candidates;
  for (const auto& [token, count] : of_expert) {
    const double share = static_cast<double>(count) / static_cast<double>(tokens);
    const double everywhere = static_cast<double>(counter.tokens().at(token)) / static_cast<double>(counter.total());
    if (count < 2 || share <= everywhere) continue;
    candidates.push_back({share * std::log(share / everywhere), token, {"", count, share, share / everywhere}});
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  });
  candidates.resize(std::min(candidates.size(), kTokensShown));
  std::vector<TokenShare> result;
  for (Candidate& candidate : candidates) {
    candidate.share.text = tokenizer.token_text(candidate.token);
    result.push_back(std::move(candidate.share));
  }
  return result;
}

std::vector<ExpertTaste> tastes_of(const LayerCounts& counts, const model::LayerExperts& layout, const Counter& counter,
                                   const data::Tokenizer& tokenizer) {
  const size_t experts = counts.of_expert.size(), sources = counts.of_source.empty() ? 0 : counts.of_source[0].size();
  std::vector<int64_t> of_source(sources, 0);
  for (const std::vector<int64_t>& of_expert : counts.of_source) {
    for (size_t source = 0; source < sources; ++source) of_source[source] += of_expert[source];
  }
  std::vector<ExpertTaste> tastes;
  for (size_t expert = 0; expert < experts; ++expert) {
    ExpertTaste& taste = tastes.emplace_back();
    taste.id = layout.id_of(static_cast<int64_t>(expert));
    for (const auto& [token, count] : counts.of_expert[expert]) taste.tokens += count;
    for (size_t source = 0; source < sources; ++source) {
      const auto taken = static_cast<double>(counts.of_source[expert][source]);
      taste.sources.push_back(taken * static_cast<double>(experts) /
                              std::max(1.0, static_cast<double>(of_source[source])));
    }
    if (taste.tokens > 0)
      taste.tokens_of_its_own = own_tokens(counts.of_expert[expert], taste.tokens, counter, tokenizer);
  }
  return tastes;
}

// Trained ones first; one that is both stands once.
std::vector<std::string> sources_of(const data::DataSettings& settings) {
  std::vector<std::string> sources;
  const auto add = [&](const std::string& path) {
    if (std::find(sources.begin(), sources.end(), path) == sources.end()) sources.push_back(path);
  };
  for (const data::SourceSettings& source : settings.train) add(source.path);
  for (const data::HeldOutSettings& source : settings.validation) add(source.path);
  return sources;
}

}  // namespace

Specialisation specialisation_of(Session& session, const std::filesystem::path& run, int64_t tokens) {
  Specialisation result;
  if (tokens == 0) return result.problem = "not asked for (--tokens 0)", result;
  const std::filesystem::path checkpoints = run / "checkpoints";
  if (!std::filesystem::is_directory(checkpoints)) {
    result.problem = "there is no checkpoint: no folder " + checkpoints.string();
    return result;
  }
  try {
    LoadedModel loaded = load_model(session, run);
    result.checkpoint = loaded.checkpoint.filename().string();
    result.step = loaded.step;
    if (loaded.model->experts().moe_layers().empty()) return result.problem = "the model has no experts", result;
    Counter counter(session, loaded, tokens);
    for (const std::string& source : sources_of(loaded.settings.data)) {
      try {
        counter.count(source);
      } catch (const DataError& failure) {
        result.problem += (result.problem.empty() ? "" : "; ") + std::string(failure.what());
      }
    }
    result.sources = counter.sources();
    if (result.sources.empty()) return result;
    result.tokens = counter.total();
    for (const auto& [layer, counts] : counter.layers())
      result.layers[layer] = tastes_of(counts, loaded.model->experts().layer(layer), counter, *loaded.tokenizer);
  } catch (const Error& failure) {  // of a checkpoint, its config or its tokenizer
    if (failure.code() == ExitCode::kInternal) throw;
    result.problem = failure.what();
  }
  return result;
}

}  // namespace cadre::launch
