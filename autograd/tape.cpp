#include "autograd/tape.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "autograd/backward_call.h"
#include "autograd/profiler.h"
#include "core/error.h"

namespace cadre::autograd {
namespace {

std::vector<TensorSpec> specs_of(const std::vector<std::shared_ptr<Node>>& nodes) {
  std::vector<TensorSpec> specs(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i]) specs[i] = {nodes[i]->dtype, nodes[i]->shape};
  }
  return specs;
}

// Adds the time of its scope to the profiler, if there is one.
class Timed {
 public:
  Timed(const Context& context, const Record& record, Phase phase) : context_(context), record_(record), phase_(phase) {
    if (context_.profiler) start_ = std::chrono::steady_clock::now();
  }
  ~Timed() {
    if (context_.profiler) report();
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  void report() {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    const Cost cost = record_.op->cost(specs_of(record_.in_nodes), specs_of(record_.out_nodes));
    const double work = phase_ == Phase::kInputGradients ? record_.op->input_gradient_work() : 1;
    context_.profiler->add(record_.op->name(), phase_, elapsed.count(), work * cost.flops, cost.bytes);
  }
  const Context& context_;
  const Record& record_;
  Phase phase_;
  std::chrono::steady_clock::time_point start_;
};

std::vector<TensorView> views_of(const std::vector<Tensor>& tensors) {
  std::vector<TensorView> views(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i]) views[i] = tensors[i].view();
  }
  return views;
}

// Results of the record's op, where it puts them.
std::vector<Tensor> make_outputs(const Context& context, const Op& op, const std::vector<TensorSpec>& specs,
                                 const std::vector<Tensor>& in) {
  std::vector<Tensor> out;
  for (size_t j = 0; j < specs.size(); ++j) {
    const int shared = op.shares(j);
    const bool in_place = shared >= 0 && in[static_cast<size_t>(shared)];
    out.push_back(in_place ? in[static_cast<size_t>(shared)].reshape(specs[j].shape)
                           : Tensor::empty(context.allocator, specs[j].dtype, specs[j].shape));
  }
  return out;
}

void run_forward(const Context& context, const Record& record, const std::vector<Tensor>& in,
                 const std::vector<Tensor>& out, Phase phase) {
  std::vector<Parameter*> parameters;
  for (const auto& node : record.in_nodes) parameters.push_back(node ? node->parameter : nullptr);
  {
    const Timed timed(context, record, phase);
    record.op->forward({context, views_of(in), views_of(out), parameters, in, out});
  }
  if (context.poll) context.poll();
}

}  // namespace

Tape::Tape(const Context& context, bool record) : context_(context), record_(record) {}

// Values that outlive the tape can no longer be recomputed.
Tape::~Tape() {
  for (const Record& record : records_) {
    for (const auto& weak : record.out_weak) {
      if (const auto value = weak.lock()) value->tape = nullptr;
    }
  }
}

std::vector<Variable> Tape::apply(std::unique_ptr<Op> op, std::vector<Variable> inputs) {
  Record record;
  record.op = std::move(op);
  std::vector<Tensor> in(inputs.size());
  bool requires_gradient = false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    record.in_nodes.push_back(inputs[i] ? inputs[i].value()->node : nullptr);
    if (!inputs[i]) continue;
    in[i] = inputs[i].tensor();
    requires_gradient = requires_gradient || inputs[i].requires_gradient();
  }
  std::vector<Variable> outputs;
  const std::vector<TensorSpec> specs = record.op->infer(specs_of(record.in_nodes));
  const std::vector<Tensor> out = make_outputs(context_, *record.op, specs, in);
  for (size_t j = 0; j < out.size(); ++j) {
    const bool wanted = record_ && requires_gradient && in_mask(record.op->differentiable_outputs(), j);
    outputs.push_back(Variable::leaf(out[j], wanted));
    record.out_nodes.push_back(outputs[j].value()->node);
  }
  run_forward(context_, record, in, out, Phase::kForward);
  if (record_ && (requires_gradient || recompute_scope_)) keep(std::move(record), inputs, outputs);
  return outputs;
}

void Tape::keep(Record record, const std::vector<Variable>& inputs, const std::vector<Variable>& outputs) {
  const Needs needs = record.op->needs();
  record.splits = !whole_scope_;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool retained = inputs[i] && (recompute_scope_ || in_mask(needs.inputs, i));
    record.in_values.push_back(retained ? inputs[i].value() : nullptr);
    Parameter* parameter = inputs[i] ? inputs[i].value()->node->parameter : nullptr;
    if (parameter != nullptr && in_mask(record.op->parameter_inputs(), i)) ++uses_[parameter];
  }
  for (size_t j = 0; j < outputs.size(); ++j) {
    record.out_values.push_back(in_mask(needs.outputs, j) ? outputs[j].value() : nullptr);
    record.out_weak.push_back(outputs[j].value());
    if (!recompute_scope_) continue;
    outputs[j].value()->tape = this;
    outputs[j].value()->record = records_.size();
    recomputable_.push_back(outputs[j].value());
  }
  records_.push_back(std::move(record));
}

void Tape::pin(const Variable& variable) {
  // Not erased: marks count positions.
  for (std::weak_ptr<Value>& value : recomputable_) {
    if (value.lock() == variable.value()) value.reset();
  }
}

void Tape::discard_recomputable(size_t mark) {
  for (size_t i = mark; i < recomputable_.size(); ++i) {
    if (const auto value = recomputable_[i].lock()) value->tensor = Tensor();
  }
  recomputable_.resize(mark);
}

// In the order of the forward, so that what was under way together then is so again.
void Tape::recompute(size_t wanted) {
  std::set<size_t> needed{wanted};
  for (auto next = needed.rbegin(); next != needed.rend(); ++next) {
    for (const auto& value : records_[*next].in_values) {
      if (value && !value->tensor && value->tape == this) needed.insert(value->record);  // made before *next
    }
  }
  for (const size_t index : needed) run_again(records_[index]);
}

void Tape::run_again(const Record& record) {
  if (record.in_values.size() != record.in_nodes.size()) {
    throw InternalError(std::string(record.op->name()) + ": its value was read after the backward that released it");
  }
  std::vector<Tensor> in(record.in_nodes.size());
  for (size_t i = 0; i < in.size(); ++i) {
    if (record.in_nodes[i]) in[i] = record.in_values[i]->materialised();
  }
  const std::vector<Tensor> results = make_outputs(context_, *record.op, specs_of(record.out_nodes), in);
  run_forward(context_, record, in, results, Phase::kRecompute);
  for (size_t j = 0; j < results.size(); ++j) {
    const auto value = record.out_weak[j].lock();
    if (value && !value->tensor) value->tensor = results[j];
  }
}

Tape::Seed Tape::seed(const Variable& loss) const {
  Tensor one = Tensor::empty(context_.allocator, Dtype::kF64, loss.shape());
  for (int64_t i = 0; i < one.elements(); ++i) one.data<double>()[i] = 1;
  return {loss, one};
}

void Tape::backward(std::vector<Seed> seeds, BackwardPart part) {
  for (Seed& seed : seeds) {
    Node& node = *seed.output.value()->node;
    if (!(seed.gradient.shape() == node.shape)) {
      throw InternalError("seed " + seed.gradient.shape().to_string() + " for an output " + node.shape.to_string());
    }
    if (node.gradient) throw InternalError("two seeds for one output");
    node.gradient = std::move(seed.gradient);
  }
  seeds.clear();
  parameters_deferred_ = part == BackwardPart::kInputsOnly;
  for (size_t i = records_.size(); i-- > 0;) {
    Record& record = records_[i];
    const bool deferred = parameters_deferred_ && record.splits;
    if (record.reached()) run_part(record, false);
    if (record.reached() && !(deferred && record.can_defer_parameters())) run_part(record, true);
    if (!deferred) finish(record);
  }
}

void Tape::backward_parameters() {
  for (size_t i = records_.size(); i-- > 0;) {
    Record& record = records_[i];
    if (!record.splits) continue;
    if (record.reached() && record.can_defer_parameters()) run_part(record, true);
    finish(record);
  }
}

void Tape::run_part(Record& record, bool parameters) {
  BackwardCall call(context_, record, !parameters_deferred_);
  if (!call.wants_any(parameters)) return;
  {
    const Timed timed(context_, record, parameters ? Phase::kParameterGradients : Phase::kInputGradients);
    parameters ? record.op->backward_parameters(call) : record.op->backward_inputs(call);
    call.finish();
  }
  if (context_.poll) context_.poll();
}

void Tape::finish(Record& record) {
  for (size_t i = 0; i < record.in_nodes.size(); ++i) {
    Parameter* parameter = record.in_nodes[i] ? record.in_nodes[i]->parameter : nullptr;
    if (parameter == nullptr || !in_mask(record.op->parameter_inputs(), i)) continue;
    if (--uses_[parameter] == 0 && on_parameter_ready) on_parameter_ready(*parameter);
  }
  for (const auto& node : record.out_nodes) node->gradient = Tensor();
  record.in_values.clear();
  record.out_values.clear();
}

}  // namespace cadre::autograd
