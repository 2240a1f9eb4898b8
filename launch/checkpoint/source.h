#pragma once
// Where a training state is read from: a checkpoint, or what an operation makes of one.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/tensor.h"

namespace cadre::launch {

class StateSource {
 public:
  virtual ~StateSource() = default;

  // For errors.
  virtual std::string where() const = 0;
  // Everything small (CheckpointHeader::state).
  virtual const nlohmann::json& scalars() const = 0;

  // Names as in state.h. What has no values here, but is no mistake, begins anew: weights as initialised, optimizer
  // state as nothing.
  virtual bool has(const std::string& name) const = 0;
  virtual bool begins_anew(const std::string& /*name*/) const { return false; }
  // These throw CheckpointError naming the tensor when it is missing or something else than asked for.
  virtual Shape shape_of(const std::string& name) const = 0;
  virtual Dtype dtype_of(const std::string& name) const = 0;
  virtual void read(const std::string& name, TensorView out) = 0;  // whole; out has its shape
  // Elements of the flattened tensor from `begin`; `out` is contiguous.
  virtual void read_flat(const std::string& name, int64_t begin, TensorView out) = 0;
};

}  // namespace cadre::launch
