#include "launch/inference/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/ops/cross_entropy.h"
#include "launch/trainer/step_work.h"
#include "parallel/pipeline/interpreter.h"

namespace cadre::launch {
namespace {

template <class T>
double sum_of(const T* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(values[i]);
  return sum;
}

// The forwards of this rank's batches of windows.
class EvaluationWork final : public parallel::StageWork {
 public:
  EvaluationWork(const autograd::Context& context, model::Transformer& model, const data::HeldOut& held_out,
                 int64_t batch_size, const parallel::Mesh& mesh)
      : context_(context),
        model_(model),
        held_out_(held_out),
        batch_size_(std::min(batch_size, (held_out.windows() + mesh.layout().data - 1) / mesh.layout().data)),
        mesh_(mesh),
        sums_(Tensor::zeros(context.allocator, Dtype::kF64, Shape{held_out.windows() + 1})) {}

  // All data ranks go through the model equally often, some with nothing at the end: they may serve each other's
  // experts.
  int rounds() const {
    const int64_t of_round = batch_size_ * mesh_.layout().data;
    return static_cast<int>((held_out_.windows() + of_round - 1) / of_round);
  }
  // Losses of each window, then the scored tokens: this rank's, zeros elsewhere.
  const Tensor& sums() const { return sums_; }

  autograd::TensorSpec stream(int round) override {
    const int64_t windows = std::min(batch_size_, held_out_.windows() - first(round));
    return {context_.dtype, Shape{windows * held_out_.options().seq_length, model_.settings().model.hidden_size}};
  }

  Tensor forward(int stage, int round, Tensor input) override {
    const data::Batch batch = held_out_.load(first(round), batch_size_);
    autograd::Tape tape(context_, /*record=*/false);
    model::ForwardInputs inputs;
    inputs.options.training = false;
    inputs.stage = static_cast<size_t>(stage / mesh_.layout().pipeline);
    if (input) inputs.stream = autograd::Variable::leaf(std::move(input));
    auto out = model_.forward(tape, to_tokens(context_, batch, held_out_.options().reset_at_documents), inputs);
    if (!out.logits) return out.stream.tensor();
    add_losses(tape, std::move(out.logits), batch, sums_.data<double>() + first(round));
    sums_.data<double>()[held_out_.windows()] += static_cast<double>(batch.target_tokens);
    return {};
  }

  Tensor backward(int, int, Tensor, autograd::BackwardPart) override { return {}; }
  void backward_weights(int, int) override {}

 private:
  int64_t first(int round) const {
    return std::min(held_out_.windows(), (round * mesh_.layout().data + mesh_.here().data) * batch_size_);
  }

  // The sum of losses of each window.
  void add_losses(autograd::Tape& tape, autograd::Variable logits, const data::Batch& batch, double* of_window) {
    const auto targets = autograd::Variable::leaf(to_tensor(context_, batch.targets));
    const Tensor losses = tape.apply_all<autograd::CrossEntropy>({std::move(logits), targets}, 1.0)[1].tensor();
    for (int64_t window = 0; window < batch.samples; ++window) {
      const int64_t begin = window * batch.seq_length;
      of_window[window] = losses.dtype() == Dtype::kF64 ? sum_of(losses.data<double>() + begin, batch.seq_length)
                                                        : sum_of(losses.data<float>() + begin, batch.seq_length);
    }
  }

  const autograd::Context& context_;
  model::Transformer& model_;
  const data::HeldOut& held_out_;
  int64_t batch_size_;
  const parallel::Mesh& mesh_;
  Tensor sums_;
};

}  // namespace

Evaluation evaluate(const autograd::Context& context, model::Transformer& model, const data::HeldOut& held_out,
                    const EvaluationOptions& options, const parallel::Mesh& mesh) {
  EvaluationWork work(context, model, held_out, options.batch_size, mesh);
  parallel::ScheduleShape shape;
  shape.ranks = mesh.layout().pipeline;
  shape.chunks = static_cast<int>(model.stages().size());
  shape.micro_batches = work.rounds();
  parallel::Interpreter(mesh.along(parallel::Axis::kPipeline), context.allocator, forward_only(shape)).run(work);
  // A window is one rank's, so these sums add nothing but zeros.
  mesh.world().all_reduce(work.sums(), parallel::Reduction::kSum, {"evaluation"})->wait();
  const int64_t windows = held_out.windows();
  const double* const values = work.sums().data<double>();
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
