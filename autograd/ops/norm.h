#pragma once
// RMSNorm, alone and fused with the residual add before it.

#include "autograd/op.h"

namespace cadre::autograd {

// x [rows, cols], weight [cols] -> y [rows, cols], rstd [rows].
class RmsNorm final : public Op {
 public:
  explicit RmsNorm(double eps) : eps_(eps) {}
  const char* name() const override { return "rms_norm"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b11, .outputs = 0b10}; }
  void backward_inputs(Backward& b) const override;
  void backward_parameters(Backward& b) const override;
  uint32_t parameter_inputs() const override { return 0b10; }
  uint32_t accumulates() const override { return 0b11; }

 private:
  double eps_;
};

// x, branch [rows, cols], weight [cols] -> sum = x + branch, y = norm(sum), rstd [rows]. Equals Add, then RmsNorm.
class AddRmsNorm final : public Op {
 public:
  explicit AddRmsNorm(double eps) : eps_(eps) {}
  const char* name() const override { return "add_rms_norm"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {.inputs = 0b100, .outputs = 0b101}; }
  void backward_inputs(Backward& b) const override;
  void backward_parameters(Backward& b) const override;
  uint32_t parameter_inputs() const override { return 0b100; }
  uint32_t accumulates() const override { return 0b100; }
  uint32_t differentiable_outputs() const override { return 0b011; }

 private:
  double eps_;
};

// a + b, same shapes.
class Add final : public Op {
 public:
  const char* name() const override { return "add"; }
  std::vector<TensorSpec> infer(std::span<const TensorSpec> in) const override;
  void forward(const Forward& f) const override;
  Needs needs() const override { return {}; }
  void backward_inputs(Backward& b) const override;
};

}  // namespace cadre::autograd
