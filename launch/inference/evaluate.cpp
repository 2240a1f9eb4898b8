#include "launch/inference/evaluate.h"

#include <cmath>
#include <numbers>

#include "autograd/ops/cross_entropy.h"
#include "core/error.h"
#include "data/eval_windows.h"
#include "data/prepare/prepare.h"
#include "launch/trainer/trainer.h"

namespace cadre::launch {
namespace {

double sum_of_losses(Session& session, LoadedModel& loaded, const data::Batch& batch) {
  const autograd::Context& context = session.context();
  autograd::Tape tape(context, /*record=*/false);
  model::ForwardInputs inputs;
  inputs.options.training = false;
  auto out = loaded.model->forward(tape, to_tokens(context, batch, loaded.settings.data.reset_at_documents), inputs);
  const auto targets = autograd::Variable::leaf(to_tensor(context, batch.targets));
  return *tape.apply<autograd::CrossEntropy>({std::move(out.logits), targets}, 1.0).tensor().data<double>();
}

}  // namespace

EvalResult evaluate(Session& session, LoadedModel& loaded, const std::string& data, const EvalOptions& options) {
  const std::shared_ptr<const data::TokenDataset> dataset = data::open_token_dataset(data);
  const auto metadata = data::read_metadata(data);
  if (metadata && metadata->tokenizer_fingerprint != loaded.tokenizer->fingerprint()) {
    throw DataError(data + ": was made by tokenizer " + metadata->tokenizer_fingerprint + ", the checkpoint has " +
                    loaded.tokenizer->fingerprint() + "; prepare it with the checkpoint's tokenizer");
  }
  data::EvalWindows::Options windows;
  windows.seq_length = loaded.settings.data.seq_length;
  windows.stride = static_cast<int>(options.stride);
  windows.vocab_size = static_cast<int32_t>(*loaded.settings.model.vocab_size.value);
  windows.context_token = loaded.tokenizer->end_of_document().value_or(0);
  windows.reset_at_documents = loaded.settings.data.reset_at_documents;
  const data::EvalWindows held_out(dataset, windows);
  EvalResult result;
  double nats = 0;
  for (int64_t first = 0; first < held_out.count(); first += options.batch_size) {
    const data::Batch batch = held_out.load(first, options.batch_size);
    nats += sum_of_losses(session, loaded, batch);
    result.tokens += batch.target_tokens;
  }
  result.loss = nats / static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.loss);
  if (metadata && metadata->counts.source_bytes > 0) {
    result.source_bytes = metadata->counts.source_bytes;
    result.bits_per_byte = nats / std::numbers::ln2 / static_cast<double>(result.source_bytes);
  }
  return result;
}

}  // namespace cadre::launch
