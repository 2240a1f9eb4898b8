#include "autograd/op.h"

#include "core/error.h"

namespace cadre::autograd {

Cost Op::cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const {
  Cost cost;
  for (const TensorSpec& spec : in)
    cost.bytes += static_cast<double>(spec.shape.elements()) * static_cast<double>(size_of(spec.dtype));
  for (const TensorSpec& spec : out)
    cost.bytes += static_cast<double>(spec.shape.elements()) * static_cast<double>(size_of(spec.dtype));
  return cost;
}

void Op::reject(std::span<const TensorSpec> in, const char* wanted) const {
  std::string text = std::string(name()) + ": wanted " + wanted + ", got";
  for (const TensorSpec& spec : in) text += " " + std::string(name_of(spec.dtype)) + spec.shape.to_string();
  throw InternalError(text);
}

}  // namespace cadre::autograd
