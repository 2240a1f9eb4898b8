#include "launch/verify/differences.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/ops/cross_entropy.h"
#include "core/rng.h"
#include "launch/trainer/steering.h"
#include "launch/trainer/trainer.h"

namespace cadre::launch {
namespace {

// The model alone, on one rank in FP64, as a function of its parameters.
class LossFunction {
 public:
  LossFunction(const VerifyCase& verify_case, const RecordedRouting& routing)
      : case_(verify_case),
        routing_(routing),
        context_{{threads_, kernels::best_isa()}, *allocator_, Dtype::kF64},
        model_(store_, verify_case.network) {
    store_.materialise(context_, verify_case.seed);
    const model::MoeSettings& moe = verify_case.network.moe;
    controls_ = controls_of_step(*allocator_, {.seed = verify_case.seed}, model_.experts(),
                                 optim::ExpertRules(moe.rules, model_.experts()), nullptr,
                                 model::first_controls(*allocator_, model_.experts(), moe.router));
  }

  const autograd::ParameterStore& store() const { return store_; }

  // At the initial parameters + step x direction.
  double at(const std::vector<double>& direction, double step) {
    double* values = store_.values().data<double>();
    const std::vector<double> before(values, values + store_.elements());
    for (size_t i = 0; i < direction.size(); ++i) values[i] += step * direction[i];
    store_.touch();
    double loss = 0;
    for (int64_t m = 0; m < case_.micro_batches; ++m) loss += of_micro_batch(m);
    std::copy(before.begin(), before.end(), values);
    return loss;
  }

 private:
  double of_micro_batch(int64_t index) {
    const data::Batch batch = verify_batch(case_, index);
    model::RoutingTrace trace;
    const auto& recorded = routing_[static_cast<size_t>(index)];
    for (size_t i = 0; i < recorded.size(); ++i) {
      const std::vector<int32_t>& ids = recorded[i];
      const int64_t k = model_.experts().layer(model_.experts().moe_layers()[i]).places;
      trace.push_back(to_tensor(context_, ids).reshape(Shape{static_cast<int64_t>(ids.size()) / k, k}));
    }
    autograd::Tape tape(context_, /*record=*/false);
    model::ForwardInputs inputs;
    inputs.options.global_tokens = static_cast<double>(case_.global_tokens());
    inputs.options.seed = case_.seed;
    inputs.options.step = 1;
    inputs.options.first_token = index * batch.samples * batch.seq_length;
    inputs.replay = &trace;
    inputs.controls = &controls_;
    auto out = model_.forward(tape, to_tokens(context_, batch, case_.reset_at_documents), inputs);
    const auto targets = autograd::Variable::leaf(to_tensor(context_, batch.targets));
    const double weight = 1.0 / static_cast<double>(case_.global_tokens());
    double loss = *tape.apply<autograd::CrossEntropy>({std::move(out.logits), targets}, weight).tensor().data<double>();
    for (const model::RoutingResult& layer : out.routing) {
      loss += layer.balance_loss() + layer.z_loss_value();
    }
    return loss;
  }

  const VerifyCase& case_;
  const RecordedRouting& routing_;
  ThreadPool threads_{1};
  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  autograd::Context context_;
  autograd::ParameterStore store_;
  model::Transformer model_;
  std::vector<model::LayerControls> controls_;
};

std::vector<double> random_direction(int64_t elements, uint64_t stream) {
  Rng rng(1, RngPurpose::kTest, stream);
  std::vector<double> direction(static_cast<size_t>(elements));
  double square = 0;
  for (double& value : direction) {
    value = rng.normal();
    square += value * value;
  }
  for (double& value : direction) value /= std::sqrt(square);
  return direction;
}

// The gradient laid out as the store.
std::vector<double> flat_gradient(const autograd::ParameterStore& store, const CaseResult& reference) {
  std::vector<double> flat(static_cast<size_t>(store.elements()), 0.0);
  for (const auto& parameter : store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      const std::vector<double>& values = reference.gradients.at(segment.name);
      std::copy(values.begin(), values.end(), flat.begin() + parameter->offset + segment.offset);
    }
  }
  return flat;
}

}  // namespace

double directional_error(const VerifyCase& verify_case, const CaseResult& reference, int directions) {
  LossFunction loss(verify_case, reference.routing);
  const std::vector<double> gradient = flat_gradient(loss.store(), reference);
  double square = 0;
  for (const double g : gradient) square += g * g;
  double worst = 0;
  for (int i = 0; i < directions; ++i) {
    const std::vector<double> direction = random_direction(loss.store().elements(), static_cast<uint64_t>(i));
    double slope = 0;
    for (size_t j = 0; j < gradient.size(); ++j) slope += gradient[j] * direction[j];
    double error = std::numeric_limits<double>::infinity();
    for (const double step : {1e-4, 1e-5}) {
      const double measured = (loss.at(direction, step) - loss.at(direction, -step)) / (2 * step);
      error = std::min(error, std::abs(slope - measured) / std::sqrt(square));
    }
    worst = std::max(worst, error);
  }
  return worst;
}

}  // namespace cadre::launch
