#include "tests/autograd/case_runner.h"

#include <algorithm>
#include <limits>

#include "autograd/ops/norm.h"
#include "autograd/parameter_store.h"
#include "core/rng.h"
#include "tests/autograd/poison_allocator.h"

namespace cadre::autograd::testing {
namespace {

// Which elements of a tensor are defined.
struct Defined {
  int64_t live = -1;                              // of the first axis
  const std::vector<int64_t>* columns = nullptr;  // by row

  bool row(const Shape& shape, int64_t i) const {
    return live < 0 || i < (shape[0] == 0 ? 0 : shape.elements() / shape[0] * live);
  }
  bool element(const Shape& shape, int64_t i) const {
    if (columns == nullptr || columns->empty()) return row(shape, i);
    return row(shape, i) && i % shape.cols() < columns->at(static_cast<size_t>(i / shape.cols()));
  }
};

template <class T, class From>
void write(Tensor& tensor, const std::vector<From>& values) {
  std::transform(values.begin(), values.end(), tensor.data<T>(), [](From value) { return static_cast<T>(value); });
}

Tensor make_tensor(Allocator& allocator, Dtype dtype, const CaseInput& input) {
  using enum CaseInput::Kind;
  const Dtype type = input.kind == kReal  ? dtype
                     : input.kind == kF64 ? Dtype::kF64
                     : input.kind == kI32 ? Dtype::kI32
                                          : Dtype::kI64;
  Tensor tensor = Tensor::empty(allocator, type, input.shape);
  switch (type) {
    case Dtype::kF64: write<double>(tensor, input.reals); break;
    case Dtype::kF32: write<float>(tensor, input.reals); break;
    case Dtype::kI32: write<int32_t>(tensor, input.integers); break;
    default: write<int64_t>(tensor, input.integers);
  }
  return tensor;
}

template <class T>
void read_into(const Tensor& tensor, const Defined& defined, std::vector<double>& values) {
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (defined.element(tensor.shape(), i)) values[static_cast<size_t>(i)] = static_cast<double>(tensor.data<T>()[i]);
  }
}

std::vector<double> read(const Tensor& tensor, const Defined& defined) {
  std::vector<double> values(static_cast<size_t>(tensor.elements()), 0.0);
  switch (tensor.dtype()) {
    case Dtype::kF64: read_into<double>(tensor, defined, values); break;
    case Dtype::kF32: read_into<float>(tensor, defined, values); break;
    case Dtype::kI32: read_into<int32_t>(tensor, defined, values); break;
    default: read_into<int64_t>(tensor, defined, values);
  }
  return values;
}

Defined defined_output(const OpCase& op_case, size_t output) {
  return {output < op_case.output_live.size() ? op_case.output_live[output] : -1,
          output == 0 ? &op_case.output_columns : nullptr};
}

class CaseRun {
 public:
  CaseRun(const OpCase& op_case, const RunOptions& options)
      : case_(op_case),
        options_(options),
        counting_(make_counting_allocator()),
        allocator_(options.dry ? *counting_ : static_cast<Allocator&>(poison_)),
        threads_(options.threads),
        context_{{threads_, options.isa, options.dry}, allocator_, options.dtype},
        op_(op_case.make()) {}

  RunResult run() {
    make_inputs();
    Tape tape(context_);
    std::vector<Tape::Seed> seeds;
    {
      const RecomputeScope scope(tape, options_.recompute);
      const std::vector<Variable> inputs = derive(tape);
      for (const int projection : options_.projections) apply(tape, inputs, projection, seeds);
    }
    if (options_.recompute) tape.discard_recomputable();
    if (!seeds.empty()) {
      tape.backward(std::move(seeds), options_.part);
      if (options_.part == BackwardPart::kInputsOnly) tape.backward_parameters();
    }
    read_gradients();
    return std::move(result_);
  }

 private:
  bool from_store(size_t i) const {
    return options_.parameters && case_.inputs[i].differentiable && in_mask(op_->parameter_inputs(), i);
  }

  void make_inputs() {
    parameters_.resize(case_.inputs.size(), nullptr);
    for (size_t i = 0; i < case_.inputs.size(); ++i) {
      if (from_store(i)) parameters_[i] = &store_.declare("p" + std::to_string(i), case_.inputs[i].shape, 0, true);
    }
    store_.materialise(context_, 1);
    for (size_t i = 0; i < case_.inputs.size(); ++i) {
      const CaseInput& input = case_.inputs[i];
      if (input.kind == CaseInput::Kind::kAbsent) {
        leaves_.emplace_back();
      } else if (parameters_[i] != nullptr) {
        const Tensor values = make_tensor(allocator_, options_.dtype, input);
        std::memcpy(parameters_[i]->value.raw(), values.raw(), values.bytes());
        leaves_.push_back(Variable::of(*parameters_[i]));
      } else {
        leaves_.push_back(Variable::leaf(make_tensor(allocator_, options_.dtype, input), input.differentiable));
      }
    }
  }

  std::vector<Variable> derive(Tape& tape) {
    std::vector<Variable> inputs = leaves_;
    for (size_t i = 0; i < inputs.size() && options_.derived_inputs; ++i) {
      if (!inputs[i] || !case_.inputs[i].differentiable || parameters_[i] != nullptr) continue;
      const Tensor zeros = Tensor::zeros(allocator_, inputs[i].dtype(), inputs[i].shape());
      inputs[i] = tape.apply<Add>({inputs[i], Variable::leaf(zeros)});
    }
    return inputs;
  }

  void apply(Tape& tape, const std::vector<Variable>& inputs, int projection, std::vector<Tape::Seed>& seeds) {
    const std::vector<Variable> outputs = tape.apply(case_.make(), inputs);
    for (size_t j = 0; j < outputs.size(); ++j) {
      const std::vector<double> values = read(outputs[j].tensor(), defined_output(case_, j));
      if (projection == options_.projections.front()) result_.outputs.push_back(values);
      if (!in_mask(op_->differentiable_outputs(), j) || !outputs[j].requires_gradient()) continue;
      seeds.push_back({outputs[j], project(outputs[j], values, defined_output(case_, j), projection * 16 + int(j))});
    }
  }

  // A random gradient for this output; zero in rows that are undefined, not a number in such columns.
  Tensor project(const Variable& output, const std::vector<double>& values, const Defined& defined, int stream) {
    Rng rng(17, RngPurpose::kTest, static_cast<uint64_t>(stream));
    CaseInput random{.kind = output.dtype() == options_.dtype ? CaseInput::Kind::kReal : CaseInput::Kind::kF64,
                     .shape = output.shape()};
    random.reals.resize(values.size(), 0);
    for (int64_t i = 0; i < output.shape().elements(); ++i) {
      const auto at = static_cast<size_t>(i);
      if (!defined.row(output.shape(), i)) continue;
      const bool means = defined.element(output.shape(), i);
      random.reals[at] = means ? static_cast<float>(rng.normal()) : std::numeric_limits<double>::quiet_NaN();
      if (means) result_.projected += random.reals[at] * values[at];
    }
    return make_tensor(allocator_, options_.dtype, random);
  }

  void read_gradients() {
    store_.zero_untouched_gradients();
    for (size_t i = 0; i < leaves_.size(); ++i) {
      const CaseInput& input = case_.inputs[i];
      result_.gradients.emplace_back();
      if (!input.differentiable) continue;
      const Tensor& gradient = parameters_[i] ? parameters_[i]->gradient : leaves_[i].gradient();
      if (gradient) result_.gradients.back() = read(gradient, {input.live, &input.columns});
    }
  }

  const OpCase& case_;
  const RunOptions& options_;
  PoisonAllocator poison_;
  std::shared_ptr<Allocator> counting_;
  Allocator& allocator_;
  ThreadPool threads_;
  Context context_;
  std::unique_ptr<Op> op_;
  ParameterStore store_;
  std::vector<Parameter*> parameters_;
  std::vector<Variable> leaves_;
  RunResult result_;
};

}  // namespace

RunResult run_case(const OpCase& op_case, const RunOptions& options) { return CaseRun(op_case, options).run(); }

std::vector<kernels::Isa> available_isas() {
  std::vector<kernels::Isa> isas;
  for (const auto isa : {kernels::Isa::kPortable, kernels::Isa::kAvx2, kernels::Isa::kAvx512}) {
    if (kernels::isa_available(isa)) isas.push_back(isa);
  }
  return isas;
}

}  // namespace cadre::autograd::testing
