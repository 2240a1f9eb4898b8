#include "autograd/variable.h"

#include "autograd/tape.h"
#include "core/error.h"

namespace cadre::autograd {

const Tensor& Value::materialised() {
  if (!tensor) {
    if (tape == nullptr) throw InternalError("a value was read that was released");
    tape->recompute(record);
  }
  return tensor;
}

Variable Variable::leaf(Tensor tensor, bool requires_gradient) {
  auto value = std::make_shared<Value>();
  value->node = std::make_shared<Node>(Node{tensor.dtype(), tensor.shape(), requires_gradient, nullptr, 0, 0, {}});
  value->tensor = std::move(tensor);
  return Variable(std::move(value));
}

Variable Variable::of(Parameter& parameter, int64_t first, int64_t count) {
  Variable variable = leaf(parameter.value_of(first, count), parameter.trains());
  variable.value_->node->parameter = &parameter;
  variable.value_->node->first_group = first;
  return variable;
}

Variable Variable::of_use(Parameter& parameter, int use) {
  Variable variable = of(parameter);
  variable.value_->node->use = use;
  return variable;
}

}  // namespace cadre::autograd
