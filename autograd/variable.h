#pragma once
// Variable: a handle on a value of the graph. Values are freed when neither a handle nor a backward needs them.

#include <memory>

#include "autograd/parameter.h"
#include "core/tensor.h"

namespace cadre::autograd {

class Tape;

// Identity in the graph; outlives the value, because the gradient arrives later.
struct Node {
  Dtype dtype = Dtype::kF32;
  Shape shape;
  bool requires_gradient = false;
  Parameter* parameter = nullptr;  // its gradient goes to the parameter's own storage
  int64_t first_group = 0;         // of the parameter's; the shape says how many
  int use = 0;                     // of the parameter's
  Tensor gradient;
};

// A value, which may have been discarded to be recomputed by the op that made it.
struct Value {
  std::shared_ptr<Node> node;
  Tensor tensor;
  Tape* tape = nullptr;  // set for values that a tape can recompute
  size_t record = 0;     // the op that made it, in that tape

  const Tensor& materialised();  // recomputes when discarded
};

class Variable {
 public:
  Variable() = default;
  explicit Variable(std::shared_ptr<Value> value) : value_(std::move(value)) {}

  // A value without history; `requires_gradient` lets tests and pipeline stages ask for its gradient.
  static Variable leaf(Tensor tensor, bool requires_gradient = false);
  static Variable of(Parameter& parameter) { return of(parameter, 0, parameter.groups()); }
  // Some groups of a stack.
  static Variable of(Parameter& parameter, int64_t first, int64_t count);
  static Variable of_use(Parameter& parameter, int use);

  explicit operator bool() const { return value_ != nullptr; }
  const Tensor& tensor() const { return value_->materialised(); }
  TensorView view() const { return tensor().view(); }
  const Shape& shape() const { return value_->node->shape; }
  Dtype dtype() const { return value_->node->dtype; }
  bool requires_gradient() const { return value_->node->requires_gradient; }
  // Of a leaf after backward; empty when nothing reached it.
  const Tensor& gradient() const { return value_->node->gradient; }
  const std::shared_ptr<Value>& value() const { return value_; }

 private:
  std::shared_ptr<Value> value_;
};

}  // namespace cadre::autograd
