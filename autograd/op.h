#pragma once
// An op is one type: name, shape rule, forward, backward in two parts, FLOP and byte count. It names no device and does
// nothing generic: checking, allocation, recording and profiling happen in the funnel (tape.h).
//
// forward() must be a pure function of its inputs and attributes: recompute calls it again and expects the same bits.

#include <algorithm>
#include <span>
#include <vector>

#include "autograd/context.h"
#include "autograd/variable.h"

namespace cadre::autograd {

struct TensorSpec {
  Dtype dtype = Dtype::kF32;
  Shape shape;
};

struct Cost {
  double flops = 0;
  double bytes = 0;
};

// Forward's arguments. An absent optional input is a view without data. `owners` keep what in and out point to alive,
// for an op whose work outlasts the call.
struct Forward {
  const Context& context;
  std::span<const TensorView> in;
  std::span<const TensorView> out;
  std::span<Parameter* const> parameters;  // of each input, or null
  std::span<const Tensor> in_owners;
  std::span<const Tensor> out_owners;
};

// Backward's arguments: what forward saw (only what needs() asked for has data), the gradients that arrived, and where
// to put the inputs' gradients.
class Backward {
 public:
  struct Target {
    TensorView view;
    kernels::Write write = kernels::Write::kOverwrite;
  };

  virtual ~Backward() = default;
  virtual const Context& context() const = 0;
  virtual TensorView in(size_t i) const = 0;
  virtual TensorView out(size_t i) const = 0;
  virtual Parameter* parameter(size_t i) const = 0;
  // No data when no gradient reached this output.
  virtual TensorView gradient(size_t output) const = 0;
  // The same, kept alive.
  virtual Tensor gradient_owner(size_t output) const = 0;
  virtual bool wants(size_t input) const = 0;
  // Where to write input i's gradient; once per input and backward part, and only when wants(i).
  virtual Target target(size_t input) = 0;
  // The same, overwriting the buffer of input `input` itself when nobody else needs it. Always kOverwrite.
  virtual TensorView target_over_input(size_t input) = 0;
  // Input's gradient is output's gradient, unchanged: shared, not copied.
  virtual void pass(size_t input, size_t output) = 0;
  // Input's gradient is this tensor, which nobody writes to any more: shared or added.
  virtual void give(size_t input, Tensor gradient) = 0;
  // Output's gradient, to be written to and then passed on; copied first when others hold it, uninitialised when none
  // arrived.
  virtual TensorView writable_gradient(size_t output) = 0;
};

// Of a mask of inputs or outputs, whether number i is in it. The last bit speaks for all that follow, too.
constexpr bool in_mask(uint32_t mask, size_t i) { return (mask >> std::min<size_t>(i, 31) & 1u) != 0; }

// Which tensors the backward reads; bit i is input or output i (in_mask).
struct Needs {
  uint32_t inputs = 0;
  uint32_t outputs = 0;
};

class Op {
 public:
  virtual ~Op() = default;
  virtual const char* name() const = 0;
  // Output shapes; throws InternalError naming the op and the shapes when inputs do not fit.
  virtual std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const = 0;
  virtual void forward(const Forward& f) const = 0;
  // The input whose storage this output has, too, when that input is present (a wait for it, a further part of it); -1:
  // none.
  virtual int shares(size_t) const { return -1; }
  virtual Needs needs() const = 0;
  // Gradients of inputs that are not parameters.
  virtual void backward_inputs(Backward& b) const = 0;
  // Gradients of inputs that are parameters (trainable tensors); may run later.
  virtual void backward_parameters(Backward&) const {}
  // Bit i: input i belongs to backward_parameters.
  virtual uint32_t parameter_inputs() const { return 0; }
  // Bit i: the backward can add to input i's gradient (Write::kAccumulate); otherwise the funnel adds.
  virtual uint32_t accumulates() const { return 0; }
  // Bit i: output i can receive a gradient (others are integers, statistics or saved for backward).
  virtual uint32_t differentiable_outputs() const { return 1; }
  // Of the forward.
  virtual Cost cost(std::span<const TensorSpec> in, std::span<const TensorSpec> out) const;
  // FLOPs of backward_inputs, as a multiple of the forward's.
  virtual double input_gradient_work() const { return 1; }

 protected:
  [[noreturn]] void reject(std::span<const TensorSpec> in, const char* wanted) const;
  void require(bool fits, std::span<const TensorSpec> in, const char* wanted) const {
    if (!fits) reject(in, wanted);
  }
};

}  // namespace cadre::autograd
