#include "launch/inference/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "launch/trainer/trainer.h"

namespace cadre::launch {
namespace {

std::vector<double> read_logits(TensorView logits) {
  std::vector<double> values(static_cast<size_t>(logits.cols()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = logits.dtype == Dtype::kF64 ? logits.as<double>()[i] : static_cast<double>(logits.as<float>()[i]);
  }
  return values;
}

// Feeds tokens through the model and keeps the caches.
class Decoder {
 public:
  Decoder(Session& session, LoadedModel& loaded)
      : session_(session),
        loaded_(loaded),
        window_(loaded.settings.data.seq_length),
        state_(loaded.model->make_state(session.context(), 1, window_)) {}

  // The logits after the last of `fresh`; [vocabulary].
  Tensor advance(const std::vector<int32_t>& fresh) {
    history_.insert(history_.end(), fresh.begin(), fresh.end());
    if (past_ + static_cast<int64_t>(fresh.size()) <= window_) return run(fresh);
    const int64_t kept = std::min<int64_t>(std::max<int64_t>(1, window_ / 2), static_cast<int64_t>(history_.size()));
    past_ = 0;
    return run({history_.end() - kept, history_.end()});
  }

 private:
  Tensor run(const std::vector<int32_t>& tokens) {
    const autograd::Context& context = session_.context();
    autograd::Tape tape(context, /*record=*/false);
    model::TokenBatch batch;
    batch.length = static_cast<int64_t>(tokens.size());
    batch.tokens = to_tensor(context, tokens);
    batch.past = past_;
    model::ForwardInputs inputs;
    inputs.options.training = false;
    inputs.state = &state_;
    const Tensor logits = loaded_.model->forward(tape, batch, inputs).logits.tensor();
    past_ += batch.length;
    return logits.slice(batch.length - 1, batch.length);
  }

  Session& session_;
  LoadedModel& loaded_;
  int64_t window_;
  model::GenerationState state_;
  int64_t past_ = 0;
  std::vector<int32_t> history_;
};

}  // namespace

int32_t sample_token(TensorView logits, const SamplingOptions& options, Rng& rng) {
  const std::vector<double> values = read_logits(logits);
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  if (options.temperature <= 0) return order[0];
  const size_t kept = options.top_k > 0 ? std::min(order.size(), static_cast<size_t>(options.top_k)) : order.size();
  std::vector<double> weights(kept);
  double total = 0;
  const double largest = values[static_cast<size_t>(order[0])];
  for (size_t i = 0; i < kept; ++i) {
    weights[i] = std::exp((values[static_cast<size_t>(order[i])] - largest) / options.temperature);
    total += weights[i];
  }
  double reachable = 0;
  size_t nucleus = 0;
  while (nucleus < kept && (nucleus == 0 || reachable < options.top_p * total)) reachable += weights[nucleus++];
  double draw = rng.uniform() * reachable;
  for (size_t i = 0; i < nucleus; ++i) {
    draw -= weights[i];
    if (draw < 0) return order[i];
  }
  return order[nucleus - 1];
}

void generate(Session& session, LoadedModel& loaded, const std::string& prompt, int64_t tokens,
              const SamplingOptions& options, const std::function<void(std::string_view)>& on_text) {
  const std::optional<int32_t> end = loaded.tokenizer->end_of_document();
  std::vector<int32_t> fresh{end.value_or(0)};
  loaded.tokenizer->encode(prompt, fresh);
  Decoder decoder(session, loaded);
  Rng rng(options.seed, RngPurpose::kGenerate);
  on_text(prompt);
  for (int64_t i = 0; i < tokens; ++i) {
    const Tensor logits = decoder.advance(fresh);
    const TensorView known = logits.view().columns(0, loaded.tokenizer->vocab_size());
    const int32_t id = sample_token(known, options, rng);
    if (end && id == *end) break;
    on_text(loaded.tokenizer->token_text(id));
    fresh = {id};
  }
}

}  // namespace cadre::launch
