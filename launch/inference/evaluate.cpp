#include "launch/inference/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/ops/cross_entropy.h"
#include "launch/trainer/trainer.h"

namespace cadre::launch {
namespace {

template <class T>
double sum_of(const T* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(values[i]);
  return sum;
}

// The sum of losses of each window.
void add_losses(const autograd::Context& context, model::Transformer& model, const data::Batch& batch,
                bool reset_at_documents, double* of_window) {
  autograd::Tape tape(context, /*record=*/false);
  model::ForwardInputs inputs;
  inputs.options.training = false;
  auto out = model.forward(tape, to_tokens(context, batch, reset_at_documents), inputs);
  const auto targets = autograd::Variable::leaf(to_tensor(context, batch.targets));
  const Tensor losses = tape.apply_all<autograd::CrossEntropy>({std::move(out.logits), targets}, 1.0)[1].tensor();
  for (int64_t window = 0; window < batch.samples; ++window) {
    const int64_t first = window * batch.seq_length;
    of_window[window] = losses.dtype() == Dtype::kF64 ? sum_of(losses.data<double>() + first, batch.seq_length)
                                                      : sum_of(losses.data<float>() + first, batch.seq_length);
  }
}

}  // namespace

Evaluation evaluate(const autograd::Context& context, model::Transformer& model, const data::HeldOut& held_out,
                    const EvaluationOptions& options, parallel::Communicator& communicator) {
  const int64_t windows = held_out.windows(), ranks = communicator.size();
  const int64_t batch_size = std::min(options.batch_size, (windows + ranks - 1) / ranks);
  // Losses of each window, then the scored tokens. A window is one rank's, so these sums add nothing but zeros.
  const Tensor sums = Tensor::empty(context.allocator, Dtype::kF64, Shape{windows + 1});
  double* const values = sums.data<double>();
  std::fill_n(values, windows + 1, 0.0);
  // All ranks go through the model equally often, some with nothing at the end: they may serve each other's experts.
  for (int64_t round = 0; round * ranks * batch_size < windows; ++round) {
    const int64_t first = std::min(windows, (round * ranks + communicator.rank()) * batch_size);
    const data::Batch batch = held_out.load(first, batch_size);
    add_losses(context, model, batch, held_out.options().reset_at_documents, values + first);
    values[windows] += static_cast<double>(batch.target_tokens);
  }
  communicator.all_reduce(sums, parallel::Reduction::kSum, {"evaluation"})->wait();
  const double nats = sum_of(values, windows);
  Evaluation result;
  result.tokens = static_cast<int64_t>(values[windows]);
  result.loss = nats / values[windows];
  result.perplexity = std::exp(result.loss);
  result.source_bytes = options.source_bytes;
  if (result.source_bytes > 0)
    result.bits_per_byte = nats / std::numbers::ln2 / static_cast<double>(result.source_bytes);
  return result;
}

}  // namespace cadre::launch
