#include "autograd/parameter_store.h"

#include "core/error.h"
#include "core/rng.h"

namespace cadre::autograd {
namespace {

constexpr int64_t kAlignment = 16;  // elements; 64 bytes of f32

template <class T>
void initialise(T* values, const Segment& segment, double init_std, uint64_t seed) {
  Rng rng(seed, RngPurpose::kInit, stream_of(segment.name));
  for (int64_t i = 0; i < segment.count(); ++i) {
    values[i] = init_std < 0 ? T{1} : init_std == 0 ? T{0} : static_cast<T>(rng.normal() * init_std);
  }
}

}  // namespace

Parameter& ParameterStore::declare(std::string name, Shape shape, double init_std, bool decays,
                                   std::vector<Segment> segments) {
  if (values_) throw InternalError("parameter " + name + " declared after materialise");
  if (find(name) != nullptr) throw InternalError("parameter " + name + " declared twice");
  auto parameter = std::make_unique<Parameter>();
  parameter->name = name;
  parameter->shape = shape;
  parameter->decays = decays;
  parameter->init_std = init_std;
  parameter->offset = elements_;
  parameter->index = static_cast<int>(parameters_.size());
  if (segments.empty()) segments.push_back(Segment{std::move(name), shape, 0, -1});
  parameter->segments = std::move(segments);
  elements_ += (shape.elements() + kAlignment - 1) / kAlignment * kAlignment;
  parameters_.push_back(std::move(parameter));
  return *parameters_.back();
}

void ParameterStore::materialise(const Context& context, uint64_t seed, bool gradients) {
  values_ = Tensor::zeros(context.allocator, context.dtype, Shape{elements_});
  if (gradients) gradients_ = Tensor::zeros(context.allocator, context.dtype, Shape{elements_});
  for (const auto& parameter : parameters_) {
    parameter->value = values_.flat_slice(parameter->offset, parameter->shape);
    if (gradients) parameter->gradient = gradients_.flat_slice(parameter->offset, parameter->shape);
    for (const Segment& segment : parameter->segments) {
      if (context.exec.dry) break;
      if (context.dtype == Dtype::kF64) {
        initialise(parameter->value.data<double>() + segment.offset, segment, parameter->init_std, seed);
      } else {
        initialise(parameter->value.data<float>() + segment.offset, segment, parameter->init_std, seed);
      }
    }
    parameter->touch();
  }
}

Parameter* ParameterStore::find(const std::string& name) const {
  for (const auto& parameter : parameters_) {
    if (parameter->name == name) return parameter.get();
  }
  return nullptr;
}

int64_t ParameterStore::parameter_count() const {
  int64_t count = 0;
  for (const auto& parameter : parameters_) count += parameter->shape.elements();
  return count;
}

void ParameterStore::clear_gradients() {
  for (const auto& parameter : parameters_) parameter->clear_gradient();
}

void ParameterStore::zero_untouched_gradients() {
  for (const auto& parameter : parameters_) parameter->zero_gradient_if_empty();
}

void ParameterStore::touch() {
  for (const auto& parameter : parameters_) parameter->touch();
}

}  // namespace cadre::autograd
